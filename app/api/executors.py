"""Routes of executors: who has work and workers, and the stream's long-poll form."""
# ruff: noqa: FAST003  A DirectRoute reads its path itself.

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET
from starlette.requests import ClientDisconnect

from ..backend.extensions import Service
from ..domain.instant import format_instant
from ..domain.job import ExecutorSummary, Job
from ..domain.limits import MAX_CLAIM_WAIT_SECONDS
from ..domain.status import JobStatus
from .dependencies import executor_of, limits_of, service_of
from .direct_route import DirectRoute
from .job_json import encode_job_for_worker
from .json_body import read_json
from .mark_body import CLAIM
from .request_errors import invalid
from .wire_types import read_duration, read_lease, read_string

JSON = "application/json"

router = APIRouter(route_class=DirectRoute, tags=["executors"])


@router.post("/v1/executors/{executor}/claim", operation_id="claim_jobs")
async def claim_jobs(request: Request) -> Response:
    """Claim ready jobs.

    The stream for those without WebSocket: answers with up to `limit` jobs as soon as there is one, or with none after
    `wait`. No connection renews the lease of these jobs: send heartbeats, or choose `lease` long enough. If the caller
    is gone before the answer is written, its jobs go back.
    """
    executor = executor_of(request)
    body = await read_json(request, CLAIM, limit=limits_of(request).request_bytes, optional=True)
    wait = _read_wait(body.wait)
    lease = read_lease(body.lease, "/lease")
    worker = None if body.worker is UNSET else read_string(body.worker, "/worker")
    service = service_of(request)
    claiming = service.claim_jobs(executor, limit=body.limit, wait=wait, worker=worker, lease=lease)
    jobs = await _while_caller_waits(request, service, claiming)
    return Response(b'{"jobs":[%b]}' % b",".join(map(encode_job_for_worker, jobs)), media_type=JSON)


@router.get("/v1/executors", operation_id="list_executors")
async def list_executors(request: Request) -> Response:
    """List the executors that have jobs or connections.

    With the number of jobs by status, since when the oldest ready job waits, and how many workers are connected.
    """
    summaries = await service_of(request).list_executors()
    return Response(msgspec.json.encode({"executors": [_document(summary) for summary in summaries]}), media_type=JSON)


async def _while_caller_waits(
    request: Request, service: Service, claiming: Coroutine[Any, Any, list[Job]]
) -> list[Job]:
    """Return the jobs claimed, unless the caller leaves first: then nobody holds them."""
    claim = asyncio.create_task(claiming)
    gone = asyncio.create_task(_disconnected(request))
    is_there = False
    try:
        await asyncio.wait((claim, gone), return_when=asyncio.FIRST_COMPLETED)
        is_there = not gone.done()
    finally:
        gone.cancel()
        if not is_there:
            await asyncio.shield(_undo(claim, service))
    if not is_there:
        raise ClientDisconnect
    return claim.result()


async def _undo(claim: asyncio.Task[list[Job]], service: Service) -> None:
    claim.cancel()
    (outcome,) = await asyncio.gather(claim, return_exceptions=True)
    if not isinstance(outcome, BaseException) and outcome:
        await service.give_back(outcome)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _read_wait(given: str | float) -> timedelta:
    wait = read_duration(given, "/wait")
    if wait.total_seconds() > MAX_CLAIM_WAIT_SECONDS:
        raise invalid("/wait", "must be from 0 to 60 seconds")
    return wait


def _document(summary: ExecutorSummary) -> dict[str, Any]:
    return {
        "executor": summary.executor,
        "counts": {status: summary.counts.get(status, 0) for status in JobStatus},
        "oldest_ready_at": None if summary.oldest_ready_at is None else format_instant(summary.oldest_ready_at),
        "connections": summary.connections,
    }
