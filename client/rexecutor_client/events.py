"""What a subscription to ready jobs begins with and brings."""

from typing import TypeAlias

from msgspec import Struct

from .job import Job


class HeldJob(Struct, frozen=True):
    """A job that a session holds, and the fence under which it does."""

    id: int
    fence: int


class Hello(Struct, frozen=True, kw_only=True):
    """What a connection begins with; times in seconds."""

    protocol: int
    version: str
    features: list[str]
    limits: dict[str, float]
    session: str
    resume: str
    """The token to come back with."""
    resumed: bool
    held: list[HeldJob]
    credits: int
    heartbeat_interval: float
    lease: float


class Revoke(Struct, frozen=True):
    """The job with this fence is no longer this session's: stop."""

    id: int
    fence: int
    reason: str
    """``cancelled``, ``timeout``, ``lost``, ``rerun``, ``acknowledged``, or one that a later service knows."""


class Drain(Struct, frozen=True):
    """The server leaves: no more jobs come here, acknowledgements are taken until the close."""


Event: TypeAlias = Job | Revoke | Drain
