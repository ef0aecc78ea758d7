"""The body of a prune, and the domain's word for it."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..domain.limits import MAX_INT64
from ..domain.pruning import Except, MaxAge, MaxLength, Only, PruneBy, PruneExecutors, PruneSpec
from ..domain.status import JobStatus
from .request_errors import invalid
from .wire_types import Duration, read_duration, read_string


class PruneByBody(Struct, forbid_unknown_fields=True):
    """Exactly one of the two."""

    max_age: Duration | UnsetType = UNSET
    max_length: Annotated[int, Meta(ge=0, le=MAX_INT64, description="How many jobs to keep.")] | UnsetType = UNSET


class PruneExecutorsBody(Struct, forbid_unknown_fields=True):
    """Exactly one of the two."""

    only: list[str] | UnsetType = UNSET
    except_: list[str] | UnsetType = msgspec.field(default=UNSET, name="except")


class PruneSpecBody(Struct, forbid_unknown_fields=True):
    """Which jobs to delete."""

    status: Annotated[JobStatus, Meta(description="Any but `executing`.")]
    prune_by: PruneByBody
    executors: Annotated[PruneExecutorsBody, Meta(description='Default: `{"except": []}`, all.')] | UnsetType = UNSET
    dry_run: Annotated[bool, Meta(description="Only count what would be deleted.")] = False


PRUNE = msgspec.json.Decoder(PruneSpecBody)


def read_prune_spec(body: PruneSpecBody) -> PruneSpec:
    """Return what a body asks to prune. Raises ValidationFailed."""
    if body.status is JobStatus.EXECUTING:
        raise invalid("/status", "must not be executing: those jobs have workers")
    return PruneSpec(body.status, _read_prune_by(body.prune_by), _read_executors(body.executors))


def _read_prune_by(body: PruneByBody) -> PruneBy:
    if body.max_age is not UNSET and body.max_length is UNSET:
        return MaxAge(read_duration(body.max_age, "/prune_by/max_age"))
    if body.max_length is not UNSET and body.max_age is UNSET:
        return MaxLength(body.max_length)
    raise invalid("/prune_by", "must have either max_age or max_length")


def _read_executors(body: PruneExecutorsBody | UnsetType) -> PruneExecutors:
    if body is UNSET:
        return Except()
    if body.only is not UNSET and body.except_ is UNSET:
        return Only(_read_names(body.only, "/executors/only"))
    if body.except_ is not UNSET and body.only is UNSET:
        return Except(_read_names(body.except_, "/executors/except"))
    raise invalid("/executors", "must have either only or except")


def _read_names(names: list[str], pointer: str) -> tuple[str, ...]:
    return tuple(read_string(name, f"{pointer}/{index}") for index, name in enumerate(names))
