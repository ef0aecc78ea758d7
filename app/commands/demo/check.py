"""Whether every job ended as it should, by what the service says of it and by what the workers saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .client import Json
from .scenario import Ending, Planned


@dataclass(frozen=True)
class Delivery:
    """A job arrived at a worker; seconds since 1970, by the worker's clock."""

    job_id: int
    worker: str
    scheduled_at: float
    arrived_at: float

    @property
    def late_seconds(self) -> float:
        """How long after its time the job arrived; negative if it came early."""
        return self.arrived_at - self.scheduled_at


@dataclass(frozen=True)
class Found:
    """What the demo has seen."""

    jobs: Mapping[str, Json]
    """Each job by its name, as the service gives it."""
    deliveries: Sequence[Delivery]
    told_to_stop: frozenset[int]
    """The ids of jobs whose workers were told to stop."""


def seconds_of(time: str) -> float:
    """Return a time of the wire as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


def find_faults(plan: Sequence[Planned], found: Found) -> dict[str, list[str]]:
    """Return what is wrong with each job, by its name; nothing of jobs that ended as they should."""
    faults = {planned.name: list(_faults_of(planned, found)) for planned in plan}
    for name in found.jobs.keys() - faults.keys():
        faults[name] = ["nobody planned it"]
    return {name: wrong for name, wrong in faults.items() if wrong}


def _faults_of(planned: Planned, found: Found) -> list[str]:
    job = found.jobs.get(planned.name)
    if job is None:
        return ["the service does not have it"]
    ending = planned.ending
    return [
        *_differences(ending, job),
        *_early(job, found.deliveries),
        *_out_of_order(ending, job, found.jobs),
        *_not_told(ending, job, found.told_to_stop),
    ]


def _differences(ending: Ending, job: Json) -> list[str]:
    errors = [error["error_type"] for error in job["errors"]]
    workers = len(set(job["attempted_by"]))
    compared = [
        ("status", ending.status, job["status"]),
        ("attempt", ending.attempt, job["attempt"]),
        ("errors", list(ending.errors), errors),
        ("number of workers", workers if ending.workers is None else ending.workers, workers),
    ]
    return [f"{name} is {is_now}, not {expected}" for name, expected, is_now in compared if is_now != expected]


def _early(job: Json, deliveries: Sequence[Delivery]) -> list[str]:
    """Nothing may be handed out before its time, neither by the service's clock nor by the worker's."""
    early = [
        f"{delivery.worker} had it {-delivery.late_seconds:.6f} s early"
        for delivery in deliveries
        if delivery.job_id == job["id"] and delivery.late_seconds < 0
    ]
    if job["attempted_at"] is not None and seconds_of(job["attempted_at"]) < seconds_of(job["scheduled_at"]):
        early.append("its last attempt began before its time")
    return early


def _out_of_order(ending: Ending, job: Json, jobs: Mapping[str, Json]) -> list[str]:
    others = [name for name in ending.no_later_than if name in jobs]
    return [
        f"{name} was started before it"
        for name in others
        if seconds_of(jobs[name]["attempted_at"] or job["attempted_at"]) < seconds_of(job["attempted_at"])
    ]


def _not_told(ending: Ending, job: Json, told_to_stop: frozenset[int]) -> list[str]:
    if (job["id"] in told_to_stop) == ending.told_to_stop:
        return []
    return ["its worker was not told to stop" if ending.told_to_stop else "its worker was told to stop"]
