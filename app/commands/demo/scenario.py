"""The jobs of the demo, and how each must end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEASE_SECONDS = 2.0

WORKERS = {"mail": 2, "webhook": 2, "video": 2}
"""How many workers each executor has."""


@dataclass(frozen=True)
class Ending:
    """What must be true of a job at the end."""

    status: str = "complete"
    attempt: int = 1
    errors: Sequence[str] = ()
    """The ``error_type`` of each, oldest first."""
    workers: int | None = None
    """How many different ones had it; None where that is open."""
    told_to_stop: bool = False
    no_later_than: Sequence[str] = ()
    """Names of jobs that must not have been started before it."""


@dataclass(frozen=True)
class Planned:
    """A job that the demo enqueues, and what it does to the job while it is executing."""

    name: str
    executor: str
    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    opens_in_seconds: float | None = None
    """A worker snoozes it until then."""
    duplicate: bool = False
    """It is enqueued twice, and the second time answers with the first."""
    cancel_after_seconds: float | None = None
    kill_worker_after_seconds: float | None = None
    ending: Ending = Ending()

    def body(self, now: float) -> dict[str, Any]:
        """Return the EnqueuableJob; ``now`` in seconds since 1970."""
        opening = {} if self.opens_in_seconds is None else {"opens_at": now + self.opens_in_seconds}
        return {
            "executor": self.executor,
            "data": {"seconds": self.seconds, **self.data, **opening},
            "metadata": {"name": self.name},
            **self.members,
        }


NEWSLETTERS = [f"newsletter {number}" for number in (1, 2, 3)]

PLAN = [
    *(Planned(name, "mail", 0.6, members={"priority": 9}) for name in NEWSLETTERS),
    Planned("password reset", "mail", 0.4, members={"priority": 1}, ending=Ending(no_later_than=NEWSLETTERS)),
    Planned(
        "daily digest",
        "mail",
        0.5,
        members={"priority": 5, "uniqueness_criteria": {"key": "daily digest", "executor": True}},
        duplicate=True,
    ),
    Planned("reminder in 3 s", "mail", 0.5, members={"delay": 3}),
    Planned("reminder in 10 s", "mail", 0.5, members={"delay": "PT10S"}),
    Planned(
        "flaky webhook",
        "webhook",
        0.3,
        data={"failures": 2},
        ending=Ending(attempt=3, errors=["ConnectionError"] * 2),
    ),
    Planned(
        "dead webhook",
        "webhook",
        0.3,
        data={"failures": 99},
        members={"max_attempts": 4},
        ending=Ending("discarded", attempt=4, errors=["ConnectionError"] * 4),
    ),
    Planned("rate-limited webhook", "webhook", 0.3, opens_in_seconds=4),
    Planned(
        "video, worker killed",
        "video",
        3,
        kill_worker_after_seconds=1,
        ending=Ending(attempt=2, errors=["lost"], workers=2),
    ),
    Planned(
        "video, cancelled",
        "video",
        60,
        cancel_after_seconds=2,
        ending=Ending("cancelled", errors=["cancelled"], told_to_stop=True),
    ),
]
