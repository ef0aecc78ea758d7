"""What an execution may say of its job."""

from datetime import datetime, timedelta
from typing import TypeAlias

from msgspec import Struct

from .job import ExecutionError

RunAt: TypeAlias = datetime | timedelta
"""An aware datetime, or how long from now."""
Reason: TypeAlias = str | ExecutionError | BaseException
"""What is recorded; of an exception its class and traceback."""


class Done(Struct, frozen=True):
    """It is done; so says None."""


class Retry(Struct, frozen=True):
    """It failed: try again, after the executor's backoff unless ``after`` is given. The last attempt is discarded."""

    after: RunAt | None = None
    error: Reason = "asked for a retry"


class Snooze(Struct, frozen=True):
    """Not now; the attempt does not count."""

    until: RunAt


class Cancel(Struct, frozen=True):
    """It is not to be done any more."""

    reason: Reason


class Discard(Struct, frozen=True):
    """It failed, and trying again would not help."""

    reason: Reason


Result: TypeAlias = Done | Retry | Snooze | Cancel | Discard
