"""Jobs and times for tests, with defaults."""

import time
from datetime import timedelta
from typing import Any

from app.domain.instant import Instant, RunAt
from app.domain.job import EnqueuableJob, ExecutionError
from app.domain.json_text import json_document
from app.domain.uniqueness import UniquenessCriteria

FAILURE = ExecutionError("custom", "Error Message")

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def now() -> Instant:
    """The wall clock, which is also the clock of a database in this process."""
    return time.time_ns() // 1000


def new_job(
    executor: str = "mail",
    *,
    data: Any = "data",
    metadata: Any = "metadata",
    scheduled_at: RunAt | None = None,
    unique: UniquenessCriteria | None = None,
    **members: Any,
) -> EnqueuableJob:
    """A job to enqueue, due now."""
    return EnqueuableJob(
        executor=executor,
        data=json_document(data),
        metadata=json_document(metadata),
        scheduled_at=scheduled_at,
        uniqueness_criteria=unique,
        **members,
    )


def unique(**members: Any) -> UniquenessCriteria:
    """Criteria of uniqueness; ``within`` is the duration in microseconds."""
    within = members.pop("within", None)
    return UniquenessCriteria(duration=None if within is None else timedelta(microseconds=within), **members)
