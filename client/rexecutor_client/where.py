"""Which jobs a query returns: conditions that read as the seed's ``Where``.

``Where.status_equals("scheduled") & ~Where.tagged_by_one_of("a", "b")``
"""

from datetime import datetime
from typing import Any, Self


class Where:
    """A condition on jobs; joined with ``&``, ``|`` and ``~``."""

    __slots__ = ("query",)

    def __init__(self, query: dict[str, Any]) -> None:
        """Wrap a tree of the contract; the class methods make them."""
        self.query = query

    @classmethod
    def everything(cls) -> Self:
        """All jobs."""
        return cls({"and": []})

    @classmethod
    def executor_equals(cls, executor: str) -> Self:
        """The executor is this one."""
        return cls({"executor_equal": executor})

    @classmethod
    def data_equals(cls, data: Any) -> Self:
        """The data is this value: the order of keys does not count, numbers compare by value."""
        return cls({"data_equals": data})

    @classmethod
    def metadata_equals(cls, metadata: Any) -> Self:
        """The metadata is this value, compared as data is."""
        return cls({"metadata_equals": metadata})

    @classmethod
    def id_equals(cls, job_id: int) -> Self:
        """The id is this one."""
        return cls({"id_equals": job_id})

    @classmethod
    def id_in(cls, *job_ids: int) -> Self:
        """The id is one of these; none when empty."""
        return cls({"id_in": job_ids})

    @classmethod
    def status_equals(cls, status: str) -> Self:
        """The status is this one."""
        return cls({"status_equal": status})

    @classmethod
    def tagged_by_all_of(cls, *tags: str) -> Self:
        """The job has all these tags; all jobs when empty."""
        return cls({"tags_all_of": tags})

    @classmethod
    def tagged_by_one_of(cls, *tags: str) -> Self:
        """The job has one of these tags; none when empty."""
        return cls({"tags_one_of": tags})

    @classmethod
    def scheduled_at_before(cls, moment: datetime) -> Self:
        """Scheduled strictly before; an aware datetime."""
        return cls({"scheduled_at_before": moment})

    @classmethod
    def scheduled_at_after(cls, moment: datetime) -> Self:
        """Scheduled strictly after."""
        return cls({"scheduled_at_after": moment})

    @classmethod
    def scheduled_at_equals(cls, moment: datetime) -> Self:
        """Scheduled at this very instant."""
        return cls({"scheduled_at_equal": moment})

    def __and__(self, other: "Where") -> "Where":
        return Where({"and": [*self._members("and"), *other._members("and")]})

    def __or__(self, other: "Where") -> "Where":
        return Where({"or": [*self._members("or"), *other._members("or")]})

    def __invert__(self) -> "Where":
        return Where({"not": self.query})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where) and self.query == other.query

    __hash__ = None  # type: ignore[assignment]  # a tree may hold lists

    def __repr__(self) -> str:
        return f"Where({self.query!r})"

    def _members(self, kind: str) -> list[dict[str, Any]]:
        """Return the members of a list of this kind, or the whole: long chains stay flat."""
        inner = self.query.get(kind)
        return inner or [self.query]
