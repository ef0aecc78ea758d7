"""The body of a query: the tree that it brings, in the domain's terms, and the cursor of its pages."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from ..domain.errors import QueryTooComplex
from ..domain.instant import Instant
from ..domain.json_text import JsonText
from ..domain.limits import MAX_INT64, MAX_PAGE, MAX_QUERY_DEPTH, MAX_QUERY_NODES, MAX_QUERY_VALUES, MIN_INT64
from ..domain.query import (
    And,
    DataEquals,
    ExecutorEqual,
    IdEquals,
    IdIn,
    MetadataEquals,
    Not,
    Or,
    Query,
    ScheduledAtAfter,
    ScheduledAtBefore,
    ScheduledAtEqual,
    StatusEqual,
    TagsAllOf,
    TagsOneOf,
)
from ..domain.status import JobStatus
from .request_errors import invalid
from .wire_types import read_document, read_instant, read_string

T = TypeVar("T")

_CURSOR = re.compile(r"below:([1-9][0-9]{0,18})", re.ASCII)


class JobQueryBody(Struct, forbid_unknown_fields=True):
    """Which jobs, how many of them, and after which page."""

    query: Annotated[Any, Meta(extra_json_schema={"$ref": "#/components/schemas/Query"})]
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    cursor: Annotated[str | None, Meta(description="The `next_cursor` of the page before.")] = None


QUERY = msgspec.json.Decoder(JobQueryBody)


def read_query(tree: Any, pointer: str = "/query") -> Query:
    """Return the query that a tree of one-key objects describes. Raises ValidationFailed or QueryTooComplex."""
    return _Reader().read(tree, pointer, depth=1)


def read_cursor(cursor: str | None) -> int | None:
    """Return the id below which the page begins; None is the first page."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    match = _CURSOR.fullmatch(text)
    if match is None or int(match[1]) > MAX_INT64:
        raise invalid("/cursor", "must be the next_cursor of an answer, unchanged")
    return int(match[1])


def write_cursor(before: int | None) -> str | None:
    """Return the cursor of the page that begins below the id; None where no page follows."""
    return None if before is None else base64.urlsafe_b64encode(f"below:{before}".encode()).decode()


class _Reader:
    """Reads one tree, and counts its nodes and values."""

    def __init__(self) -> None:
        self._nodes = 0
        self._values = 0

    def read(self, tree: Any, pointer: str, *, depth: int) -> Query:
        self._nodes += 1
        if depth > MAX_QUERY_DEPTH or self._nodes > MAX_QUERY_NODES:
            raise QueryTooComplex
        if not isinstance(tree, dict) or len(tree) != 1:
            raise invalid(pointer, "must be an object with one member")
        ((name, operand),) = tree.items()
        if name not in _OPERATORS:
            raise invalid(pointer, f"must have one of the members {', '.join(_OPERATORS)}")
        pointer = f"{pointer}/{name}"
        match name:
            case "and":
                return And(self._branches(operand, pointer, depth))
            case "or":
                return Or(self._branches(operand, pointer, depth))
            case "not":
                return Not(self.read(operand, pointer, depth=depth + 1))
            case "id_in":
                return IdIn(self._list(operand, pointer, _read_id))
            case "tags_all_of":
                return TagsAllOf(self._list(operand, pointer, _read_text))
            case "tags_one_of":
                return TagsOneOf(self._list(operand, pointer, _read_text))
        return _LEAVES[name](operand, pointer)

    def _branches(self, operand: Any, pointer: str, depth: int) -> tuple[Query, ...]:
        if not isinstance(operand, list):
            raise invalid(pointer, "must be a list")
        return tuple(self.read(branch, f"{pointer}/{index}", depth=depth + 1) for index, branch in enumerate(operand))

    def _list(self, operand: Any, pointer: str, read_value: Callable[[Any, str], T]) -> tuple[T, ...]:
        if not isinstance(operand, list):
            raise invalid(pointer, "must be a list")
        self._values += len(operand)
        if self._values > MAX_QUERY_VALUES:
            raise QueryTooComplex
        return tuple(read_value(value, f"{pointer}/{index}") for index, value in enumerate(operand))


def _read_id(value: Any, pointer: str) -> int:
    if type(value) is not int or not MIN_INT64 <= value <= MAX_INT64:
        raise invalid(pointer, "must be an integer of 64 bits")
    return value


def _read_text(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise invalid(pointer, "must be a string")
    return read_string(value, pointer)


def _read_time(value: Any, pointer: str) -> Instant:
    return read_instant(_read_text(value, pointer), pointer)


def _read_status(value: Any, pointer: str) -> JobStatus:
    if isinstance(value, str) and value in list(JobStatus):
        return JobStatus(value)
    raise invalid(pointer, f"must be one of {', '.join(JobStatus)}")


def _read_canonical(value: Any, pointer: str) -> JsonText:
    return read_document(value, pointer).compared


_LEAVES: Mapping[str, Callable[[Any, str], Query]] = {
    "executor_equal": lambda value, pointer: ExecutorEqual(_read_text(value, pointer)),
    "data_equals": lambda value, pointer: DataEquals(_read_canonical(value, pointer)),
    "metadata_equals": lambda value, pointer: MetadataEquals(_read_canonical(value, pointer)),
    "id_equals": lambda value, pointer: IdEquals(_read_id(value, pointer)),
    "status_equal": lambda value, pointer: StatusEqual(_read_status(value, pointer)),
    "scheduled_at_before": lambda value, pointer: ScheduledAtBefore(_read_time(value, pointer)),
    "scheduled_at_after": lambda value, pointer: ScheduledAtAfter(_read_time(value, pointer)),
    "scheduled_at_equal": lambda value, pointer: ScheduledAtEqual(_read_time(value, pointer)),
}
_OPERATORS = ("and", "or", "not", *_LEAVES, "id_in", "tags_all_of", "tags_one_of")
