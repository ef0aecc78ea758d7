"""What a subscription to ready jobs begins with and brings."""

from typing import TypeAlias

from msgspec import Struct

from .job import Job
from .lifecycle import RevokeReason


class Hello(Struct, frozen=True, kw_only=True):
    """What a subscription begins with."""

    session: str
    resume: str
    resumed: bool
    held: list[tuple[int, int]]
    """(id, fence) of each job that the session still holds."""
    credits: int
    lease_seconds: float


class Revoke(Struct, frozen=True):
    """The job with this fence is no longer the subscriber's."""

    job_id: int
    fence: int
    reason: RevokeReason


class Stopped(Struct, frozen=True):
    """All that follows was asked for after the ``stop`` with this reference."""

    reference: str


class Drain(Struct, frozen=True):
    """No more jobs come here."""


Event: TypeAlias = Job | Revoke | Stopped | Drain


class SubscriptionClosed(Exception):
    """Nothing more comes from the subscription."""


class SubscriptionReplaced(SubscriptionClosed):
    """The session goes on at another connection."""
