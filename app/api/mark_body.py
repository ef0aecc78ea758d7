"""The bodies of what workers and operators say of jobs, and of claims."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..domain.job import ExecutionError
from ..domain.limits import MAX_CLAIM
from .wire_types import Duration, Fence, Time, WorkerName


class ExecutionErrorBody(Struct, forbid_unknown_fields=True):
    """Why the execution failed. What is too long is cut; it never makes an acknowledgement fail."""

    error_type: Annotated[
        str, Meta(description="`panic`, `timeout`, `cancelled` or any other string; kept are 128 characters.")
    ]
    message: Annotated[str, Meta(description="Kept are 64 KiB.")]

    def to_error(self) -> ExecutionError:
        """Return the domain's word for it."""
        return ExecutionError(self.error_type, self.message)


class CompleteBody(Struct, forbid_unknown_fields=True):
    """The job is done."""

    fence: Fence | UnsetType = UNSET


class RetryBody(Struct, forbid_unknown_fields=True):
    """The job failed and is to run again, at `next_scheduled_at` or after `delay`."""

    error: ExecutionErrorBody
    next_scheduled_at: Time | UnsetType = UNSET
    delay: Duration | UnsetType = UNSET
    fence: Fence | UnsetType = UNSET


class DiscardBody(Struct, forbid_unknown_fields=True):
    """The job failed for good."""

    error: ExecutionErrorBody
    fence: Fence | UnsetType = UNSET


class CancelBody(Struct, forbid_unknown_fields=True):
    """The job is not wanted any more."""

    error: ExecutionErrorBody
    fence: Fence | UnsetType = UNSET


class SnoozeBody(Struct, forbid_unknown_fields=True):
    """The job is to run later, at `next_scheduled_at` or after `delay`; the attempt does not count."""

    next_scheduled_at: Time | UnsetType = UNSET
    delay: Duration | UnsetType = UNSET
    fence: Fence | UnsetType = UNSET


class ReleaseBody(Struct, forbid_unknown_fields=True):
    """The job was not started."""

    fence: Fence


class HeartbeatBody(Struct, forbid_unknown_fields=True):
    """The job is still being worked on."""

    fence: Fence
    lease: Annotated[Duration, Meta(description="From 1 second to 12 hours; default as the stream's.")] | UnsetType = (
        UNSET
    )


class RerunBody(Struct, forbid_unknown_fields=True):
    """The job is to run once more, now."""

    force: Annotated[bool, Meta(description="Take an executing job from its worker.")] = False


class ClaimBody(Struct, forbid_unknown_fields=True):
    """How many jobs, for how long to wait for the first, and for how long to hold them."""

    limit: Annotated[int, Meta(ge=1, le=MAX_CLAIM)] = 1
    wait: Annotated[Duration, Meta(description="From 0 to 60 seconds.")] = 0
    worker: WorkerName | UnsetType = UNSET
    lease: Annotated[Duration, Meta(description="From 1 second to 12 hours; default as the stream's.")] | UnsetType = (
        UNSET
    )


COMPLETE = msgspec.json.Decoder(CompleteBody)
RETRY = msgspec.json.Decoder(RetryBody)
DISCARD = msgspec.json.Decoder(DiscardBody)
CANCEL = msgspec.json.Decoder(CancelBody)
SNOOZE = msgspec.json.Decoder(SnoozeBody)
RELEASE = msgspec.json.Decoder(ReleaseBody)
HEARTBEAT = msgspec.json.Decoder(HeartbeatBody)
RERUN = msgspec.json.Decoder(RerunBody)
CLAIM = msgspec.json.Decoder(ClaimBody)
