"""How a command ends: the exit codes, one table for all of them, and what a command raises to end with one."""

import signal
from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """The exit codes; what a shell script may rely on."""

    DONE = 0
    REFUSED = 1
    """The service refused, or what was asked for did not come to pass."""
    USAGE = 2
    """The arguments mean nothing, or not what they should."""
    UNREACHABLE = 3
    """The service did not answer."""
    INTERRUPTED = 128 + signal.SIGINT


class UsageError(Exception):
    """The arguments make no sense together, or do not mean what they should."""


class NotDone(Exception):
    """What was asked for was not done; the message says why."""


class Leaving:
    """How the program leaves once it has said all."""

    at_once: ClassVar[bool] = False
    """Without Python's own end, which would wait for what does not let itself be ended."""
