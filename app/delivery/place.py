"""A place in an executor's line: what the dispatcher knows of who wants jobs."""

from collections.abc import Sequence
from typing import Protocol

from ..domain.job import Job
from ..store.claim import NewLease


class Place(Protocol):
    """Somebody with credits, a stream's subscription or a poll."""

    @property
    def lease(self) -> int | NewLease:
        """What its jobs are leased to."""

    @property
    def worker(self) -> str:
        """The name recorded in ``attempted_by``."""

    @property
    def wanted(self) -> int:
        """How many jobs it wants now."""

    @property
    def is_impatient(self) -> bool:
        """Whether it wants to hear when no job is due."""

    @property
    def returns(self) -> bool:
        """Whether acknowledgements are on their way that will free credits; asked once for each claim."""

    def reserve(self, credits: int) -> int:
        """Set credits aside for a claim; return a token for :meth:`give`."""

    def give(self, jobs: Sequence[Job], *, reserved: int, token: int) -> Sequence[Job]:
        """Hand over what was claimed against ``reserved`` credits; return what it cannot take any more."""

    def hear_no_more_is_due(self) -> None:
        """Hear that all due jobs are handed out, perhaps to others; only the impatient are told."""

    def refuse(self, error: Exception, *, reserved: int, token: int) -> None:
        """Hear that the claim failed."""
