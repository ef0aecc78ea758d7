"""Support for the tests of programs that use the service: one in their own process, with what a test asks of it.

The fixture ``rexecutor`` comes with the package, for pytest; :func:`service_for_tests` is for all others.
"""

from .drain import Drained, ExecutionFailed
from .service import Clock, ServiceForTests, ServiceMissing, service_for_tests

__all__ = ["Clock", "Drained", "ExecutionFailed", "ServiceForTests", "ServiceMissing", "service_for_tests"]
