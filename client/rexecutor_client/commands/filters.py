"""Which jobs a command is about."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Annotated

from cyclopts import Parameter

from ..job import JobStatus
from ..where import Where
from .exits import UsageError
from .values import json_value, past

_MANY = {"negative": (), "show_default": False}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filter:
    """Conditions that must all hold."""

    executor: Annotated[str | None, Parameter(help="Of this executor.")] = None
    status: Annotated[JobStatus | None, Parameter(help="Of this status.")] = None
    tag: Annotated[tuple[str, ...], Parameter(help="With this tag; given again, with all of them.", **_MANY)] = ()
    any_tag: Annotated[tuple[str, ...], Parameter(help="With this tag; given again, with one of them.", **_MANY)] = ()
    before: Annotated[str | None, Parameter(help="Scheduled before this time, or so long ago (1h).")] = None
    after: Annotated[str | None, Parameter(help="Scheduled after this time, or so long ago.")] = None
    id: Annotated[tuple[int, ...], Parameter(help="With this id; given again, with one of them.", **_MANY)] = ()
    data: Annotated[str | None, Parameter(help="Whose data is this JSON.")] = None
    metadata: Annotated[str | None, Parameter(help="Whose metadata is this JSON.")] = None
    where: Annotated[str | None, Parameter(help="That a query of the API (JSON, or @file) matches.")] = None

    def condition(self) -> Where:
        """Return them as one."""
        return reduce(and_, self._conditions(), Where.everything())

    def _conditions(self) -> Iterator[Where]:
        if self.executor is not None:
            yield Where.executor_equals(self.executor)
        if self.status is not None:
            yield Where.status_equals(self.status)
        if self.tag:
            yield Where.tagged_by_all_of(*self.tag)
        if self.any_tag:
            yield Where.tagged_by_one_of(*self.any_tag)
        if self.before is not None:
            yield Where.scheduled_at_before(past(self.before))
        if self.after is not None:
            yield Where.scheduled_at_after(past(self.after))
        if self.id:
            yield Where.id_in(*self.id)
        if self.data is not None:
            yield Where.data_equals(json_value(self.data))
        if self.metadata is not None:
            yield Where.metadata_equals(json_value(self.metadata))
        if self.where is not None:
            yield _given(self.where)


ALL = Filter()


def _given(text: str) -> Where:
    query = json_value(text)
    if not isinstance(query, dict):
        raise UsageError('--where takes an object, such as {"status_equal": "retryable"}')
    return Where(query)
