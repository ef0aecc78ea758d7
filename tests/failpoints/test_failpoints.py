"""The server ends at a point of its work, as by a kill; started again on the same database it has kept its promises."""

import asyncio
import os
import signal
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.domain.instant import format_instant
from app.domain.job import Job
from app.observability.failpoints import EXIT_STATUS
from tests.builders import FAILURE, new_job
from tests.end_to_end.server import Server, http_client
from tests.failpoints.load import (
    KEPT,
    PRUNE,
    Record,
    claim_and_vanish,
    produce,
    prune,
    repeat,
    until_cut_off,
    work,
    work_again,
    work_and_hold,
)
from tests.services import running_service

LEASE_SECONDS = 1
BACK_SECONDS = 2 * LEASE_SECONDS + 5
"""A lease, one more after the start, and the 5 seconds that the contract leaves to rescue."""
PATIENCE_SECONDS = 30
OLD_JOBS = 30

# Of the usual completes PostgreSQL has a function of its own; the others it leaves to the same one.
POSTGRES_POINTS = ["complete_held.after_commit=exit@2"]
MORE_POSTGRES_POINTS = [
    "insert_jobs.before_commit=exit@2",
    "insert_jobs.after_commit=exit@5",
    "insert_once.before_commit=exit@7",
    "insert_once.after_commit=exit@2",
    "claim_jobs.before_commit=exit@6",
    "claim_jobs.after_commit=exit@2",
    "complete_held.before_commit=exit@7",
    "acknowledge.before_commit=exit@1",
    "acknowledge.after_commit=exit@1",
    "rescue_jobs.before_commit=exit@1",
    "rescue_jobs.after_commit=exit@1",
    "delete_jobs.before_commit=exit@1",
    "delete_jobs.after_commit=exit@1",
    "frame.middle=exit@5",
]
POINTS = [
    "insert_jobs.before_commit=exit@2",
    "insert_once.after_commit=exit@2",
    "claim_jobs.after_commit=exit@2",
    "acknowledge.after_commit=exit@2",
]
MORE_POINTS = [
    "insert_jobs.before_commit=exit@9",
    "insert_jobs.after_commit=exit@1",
    "insert_jobs.after_commit=exit@5",
    "insert_once.before_commit=exit@1",
    "insert_once.before_commit=exit@7",
    "insert_once.after_commit=exit@7",
    "claim_jobs.before_commit=exit@1",
    "claim_jobs.before_commit=exit@6",
    "claim_jobs.after_commit=exit@6",
    "acknowledge.before_commit=exit@1",
    "acknowledge.before_commit=exit@7",
    "acknowledge.after_commit=exit@7",
    "rescue_jobs.before_commit=exit@1",
    "rescue_jobs.after_commit=exit@1",
    "delete_jobs.before_commit=exit@1",
    "delete_jobs.after_commit=exit@1",
    "answer.before=exit@7",
    "answer.middle=exit@7",
    "frame.before=exit@9",
    "frame.middle=exit@5",
    "frame.middle=exit@12",
]
DRAIN_POINTS = ["drain.begun=exit", "drain.waiting=exit@3"]


def each_of(points: list[str], postgres_points: list[str]) -> pytest.MarkDecorator:
    """Each point on the database that has it."""
    cases = [(point, "sqlite") for point in points] + [(point, "postgres") for point in postgres_points]
    return pytest.mark.parametrize(("point", "database_url"), cases, indirect=["database_url"])


@each_of(POINTS, POSTGRES_POINTS)
async def test_promises_hold_after_an_exit_at(point, database_url, tmp_path):
    await exit_at(point, database_url, tmp_path)


@pytest.mark.chaos
@each_of(MORE_POINTS, MORE_POSTGRES_POINTS)
async def test_promises_hold_after_an_exit_also_at(point, database_url, tmp_path):
    await exit_at(point, database_url, tmp_path)


@pytest.mark.chaos
@each_of(DRAIN_POINTS, DRAIN_POINTS)
async def test_promises_hold_after_an_exit_while_draining_at(point, database_url, tmp_path):
    await exit_at(point, database_url, tmp_path, is_draining=True)


async def exit_at(point: str, database_url: str, folder: Path, *, is_draining: bool = False) -> None:
    record = Record()
    old_ids = await seed(folder, database_url, record)
    server = Server(folder, database_url=database_url, lease_seconds=LEASE_SECONDS, drain_seconds=10, failpoints=point)
    await asyncio.to_thread(server.start)
    clients = [produce(server, record, name) for name in ("one-", "other-", "key/", "another-key/")]
    clients += [work(server, record), work(server, record), work_and_hold(server, record)]
    clients += [claim_and_vanish(server, record), prune(server)]
    running = [asyncio.create_task(until_cut_off(client)) for client in clients]
    if is_draining:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(delivery.outcome for each in record.deliveries.values() for delivery in each):
                await asyncio.sleep(0.01)  # the load itself
        os.kill(server.pid, signal.SIGTERM)
    status = await asyncio.to_thread(server.wait)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*running)
    assert status == EXIT_STATUS, server.log.read_text()

    held = [each[-1] for each in record.deliveries.values() if not each[-1].answered]
    server.settings["failpoints"] = ""
    await asyncio.to_thread(server.start)
    started_at = asyncio.get_running_loop().time()
    try:
        await check_old_jobs(server, old_ids)
        await repeat(server, record)
        working = asyncio.create_task(work_again(server, record))
        stored = await when_all_complete(server)
        working.cancel()
    finally:
        assert await asyncio.to_thread(server.stop) == 0
    assert not server.failures()
    check_enqueues(record, stored)
    for delivery in held:
        again = record.deliveries[delivery.job["id"]]
        assert again[-1] is not delivery, "it never came back"
        assert next(each.at for each in again if each.at > delivery.at) - started_at < BACK_SECONDS
    for job_id, job in stored.items():
        check_deliveries(record, job_id, job)


async def seed(folder: Path, database_url: str, record: Record) -> list[int]:
    """Leave jobs whose worker has vanished, and jobs to prune; return the ids of these."""
    async with running_service(folder, database_url=database_url) as service:
        lost = await service.enqueue_many([new_job(data=f"lost-{number}", max_attempts=100) for number in range(8)])
        record.enqueues["lost"] = [f"lost-{number}" for number in range(8)]
        record.acknowledged["lost"] = [each.id for each in lost]
        for limit in (1, 1, 2):
            for job in await service.claim_jobs("mail", limit=limit, lease=timedelta(seconds=LEASE_SECONDS)):
                record.deliver(as_delivered(job))
        old = await service.enqueue_many([new_job("old") for _ in range(OLD_JOBS)])
        for each in old:
            await service.mark_job_cancelled(each.id, FAILURE)
    return [each.id for each in old]


def as_delivered(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "fence": job.fence,
        "attempt": job.attempt,
        "attempted_at": format_instant(job.attempted_at or 0),
        "lease_expires_at": format_instant(job.lease_expires_at or 0),
    }


async def when_all_complete(server: Server) -> dict[int, dict[str, Any]]:
    """Wait until no job of the workers' is left to do; return all of them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            stored = await query(server, {"executor_equal": "mail"})
            if {job["status"] for job in stored.values()} == {"complete"}:
                return stored
            await asyncio.sleep(0.1)  # nothing tells


async def query(server: Server, condition: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The jobs that match, by id."""
    found: dict[int, dict[str, Any]] = {}
    cursor = None
    async with http_client(server.url) as http:
        while True:
            body = {"query": condition, "limit": 1000, "cursor": cursor}
            page = (await http.post("/v1/jobs/query", json=body)).json()
            found |= {job["id"]: job for job in page["jobs"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return found


async def check_old_jobs(server: Server, ids: list[int]) -> None:
    """A batch of a prune is there or not, what was to be kept always; and it can be repeated."""
    before = await query(server, {"executor_equal": "old"})
    assert sorted(before) in (ids, ids[-KEPT:])
    async with http_client(server.url) as http:
        answer = await http.post("/v1/jobs/prune", json=PRUNE)
    assert answer.json() == {"deleted": len(before) - KEPT}
    assert sorted(await query(server, {"executor_equal": "old"})) == ids[-KEPT:]


def check_enqueues(record: Record, stored: dict[int, dict[str, Any]]) -> None:
    """What was acknowledged is there, what was not is there once or not at all, a bulk only as a whole."""
    ids_of: dict[str, list[int]] = {}
    for job_id, job in stored.items():
        ids_of.setdefault(job["data"], []).append(job_id)
    for key, data in record.enqueues.items():
        found = [ids_of.pop(each, []) for each in data]
        if key in record.acknowledged:
            assert found == [[job_id] for job_id in record.acknowledged[key]]
        else:
            assert "/" not in key, "it was repeated"
            assert {len(ids) for ids in found} in ({0}, {1})
    assert not ids_of


def check_deliveries(record: Record, job_id: int, job: dict[str, Any]) -> None:
    """Fences grow, leases do not overlap, attempts are counted, and an acknowledged completion is the end."""
    assert job["attempt"] == job["error_count"] + 1, "each attempt but the last has failed or was lost"
    deliveries = record.deliveries.get(job_id, [])
    for before, after in pairwise(deliveries):
        assert after.job["fence"] > before.job["fence"]
        assert after.job["attempt"] > before.job["attempt"]
        assert before.answered or after.attempted_at >= before.lease_expires_at
        assert before.outcome != "complete"
    lost = sum(error["error_type"] == "lost" for error in job["errors"])
    assert lost >= sum(not each.answered for each in deliveries)
    assert job["fence"] >= job["attempt"] + lost
