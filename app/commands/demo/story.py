"""The course of the demo: enqueue the plan, start workers, meddle, wait until every job has ended."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from .check import Delivery, Found, seconds_of
from .client import Client, Json
from .processes import Processes
from .progress import Progress
from .scenario import Planned

ENDED = {"complete", "cancelled", "discarded"}
_TURN_SECONDS = 0.1


class WrongOutcome(Exception):
    """The service answered an enqueue as it should not."""


class Story:
    """Tells what happens to the progress, and remembers what the check needs."""

    def __init__(self, service: Client, processes: Processes, names: dict[int, str]) -> None:
        """Play on a running service; ``names`` is filled with the jobs' names by id."""
        self._service = service
        self._processes = processes
        self._names = names
        self._planned: dict[int, Planned] = {}
        self._deliveries: list[Delivery] = []
        self._told_to_stop: set[int] = set()
        self._due: list[tuple[float, Callable[[], None]]] = []
        """What the demo does to a job, and when by the monotonic clock."""
        self._errors_seen: dict[int, int] = {}

    def enqueue(self, plan: Sequence[Planned], progress: Progress) -> None:
        """Enqueue each job, a duplicate twice. Raises WrongOutcome."""
        now = time.time()
        for planned in plan:
            body = planned.body(now)
            job_id = self._enqueue(body, "inserted")
            self._planned[job_id] = planned
            self._names[job_id] = planned.name
            progress.happened(job_id, "enqueued")
            if planned.duplicate:
                if self._enqueue(body, "existing") != job_id:
                    raise WrongOutcome(f"{planned.name} has a duplicate with another id")
                progress.happened(job_id, "enqueued again: it exists")

    def play(self, workers: dict[str, int], url: str, progress: Progress, *, seconds: float) -> None:
        """Start the workers and go on until every job has ended, or until the time is over."""
        for executor, count in workers.items():
            for number in range(1, count + 1):
                self._processes.start_worker(executor, f"{executor}-{number}", url)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            events = self._processes.events(seconds=_TURN_SECONDS)
            jobs = self._service.query_all()
            # Asked for after the events: whatever led to them is told before them.
            self._tell_losses(jobs, progress)
            for event in events:
                self._hear(event, progress)
            progress.found(jobs)
            self._do_what_is_due()
            if all(job["status"] in ENDED for job in jobs):
                break
        for event in self._processes.events(seconds=_TURN_SECONDS):
            self._hear(event, progress)

    def found(self) -> Found:
        """Return what there is to check; each job is asked for by its id, and must be the same in a query."""
        listed = {job["id"]: job for job in self._service.query_all()}
        jobs: dict[str, Json] = {}
        for job_id, job in listed.items():
            if self._service.get_job(job_id) != job:
                raise WrongOutcome(f"job {job_id} is one in a query and another by its id")
            jobs[self._names.get(job_id, f"job {job_id}")] = job
        return Found(jobs, self._deliveries, frozenset(self._told_to_stop))

    def _enqueue(self, body: Json, expected: str) -> int:
        answer = self._service.enqueue(body)
        if answer["outcome"] != expected:
            raise WrongOutcome(f"{body['metadata']['name']}: the outcome is {answer['outcome']}, not {expected}")
        job_id: int = answer["id"]
        return job_id

    def _hear(self, event: dict[str, Any], progress: Progress) -> None:
        job_id, worker = event["job"], event["worker"]
        if event["event"] == "started":
            self._deliveries.append(Delivery(job_id, worker, seconds_of(event["scheduled_at"]), event["at"]))
            progress.happened(job_id, f"attempt {event['attempt']} begun by {worker}")
            self._meddle(self._planned[job_id], job_id, worker, progress)
            return
        if event["event"] == "told to stop":
            self._told_to_stop.add(job_id)
        progress.happened(job_id, f"{event['event']} ({worker})")

    def _meddle(self, planned: Planned, job_id: int, worker: str, progress: Progress) -> None:
        """Arrange for what is to befall a job that has started; a worker is killed but once."""
        first_time = sum(delivery.job_id == job_id for delivery in self._deliveries) == 1
        if planned.kill_worker_after_seconds is not None and first_time:

            def kill() -> None:
                self._processes.kill_worker(worker)
                progress.happened(job_id, f"SIGKILL for {worker}")

            self._due.append((time.monotonic() + planned.kill_worker_after_seconds, kill))
        if planned.cancel_after_seconds is not None and first_time:

            def cancel() -> None:
                progress.happened(job_id, "cancelled over HTTP")
                self._service.cancel(job_id, "nobody wants to see it any more")

            self._due.append((time.monotonic() + planned.cancel_after_seconds, cancel))

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        due = [action for at, action in self._due if at <= now]
        self._due = [(at, action) for at, action in self._due if at > now]
        for action in due:
            action()

    def _tell_losses(self, jobs: Sequence[Json], progress: Progress) -> None:
        """Tell of errors that the service itself recorded: no worker will."""
        for job in jobs:
            new = job["errors"][self._errors_seen.get(job["id"], 0) :]
            self._errors_seen[job["id"]] = len(job["errors"])
            if any(error["error_type"] == "lost" for error in new):
                progress.happened(job["id"], "lost: no sign of life for a lease")
