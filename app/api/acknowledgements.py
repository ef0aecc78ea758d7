"""Routes of acknowledgements: what a worker or an operator says of a job."""
# ruff: noqa: FAST003  A DirectRoute reads its path itself.

from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import UNSET, UnsetType

from ..domain.instant import format_instant
from ..domain.job import Ack
from .dependencies import job_id_of, limits_of, service_of
from .direct_route import DirectRoute
from .json_body import read_json
from .mark_body import CANCEL, COMPLETE, DISCARD, HEARTBEAT, RELEASE, RETRY, SNOOZE
from .wire_types import read_lease, read_next_run_at

T = TypeVar("T")

JSON = "application/json"

router = APIRouter(route_class=DirectRoute, tags=["acknowledgements"])


@router.post("/v1/jobs/{id}/complete", operation_id="mark_job_complete")
async def mark_job_complete(request: Request) -> Response:
    """Mark a job as complete."""
    job_id = job_id_of(request)
    body = await _read(request, COMPLETE, optional=True)
    return _answer(await service_of(request).mark_job_complete(job_id, fence=_given(body.fence)))


@router.post("/v1/jobs/{id}/retry", operation_id="mark_job_retryable")
async def mark_job_retryable(request: Request) -> Response:
    """Record an error and run the job again at a given time.

    The caller decides: `max_attempts` is not looked at.
    """
    job_id = job_id_of(request)
    body = await _read(request, RETRY)
    run_at = read_next_run_at(body.next_scheduled_at, body.delay)
    service = service_of(request)
    return _answer(await service.mark_job_retryable(job_id, run_at, body.error.to_error(), fence=_given(body.fence)))


@router.post("/v1/jobs/{id}/discard", operation_id="mark_job_discarded")
async def mark_job_discarded(request: Request) -> Response:
    """Record an error and give the job up."""
    job_id = job_id_of(request)
    body = await _read(request, DISCARD)
    return _answer(
        await service_of(request).mark_job_discarded(job_id, body.error.to_error(), fence=_given(body.fence))
    )


@router.post("/v1/jobs/{id}/cancel", operation_id="mark_job_cancelled")
async def mark_job_cancelled(request: Request) -> Response:
    """Record an error and cancel the job.

    A worker that holds the job is told to stop.
    """
    job_id = job_id_of(request)
    body = await _read(request, CANCEL)
    return _answer(
        await service_of(request).mark_job_cancelled(job_id, body.error.to_error(), fence=_given(body.fence))
    )


@router.post("/v1/jobs/{id}/snooze", operation_id="mark_job_snoozed")
async def mark_job_snoozed(request: Request) -> Response:
    """Run the job later; the attempt does not count."""
    job_id = job_id_of(request)
    body = await _read(request, SNOOZE)
    run_at = read_next_run_at(body.next_scheduled_at, body.delay)
    return _answer(await service_of(request).mark_job_snoozed(job_id, run_at, fence=_given(body.fence)))


@router.post("/v1/jobs/{id}/release", operation_id="release_job")
async def release_job(request: Request) -> Response:
    """Give a job back that was not started; the attempt does not count."""
    job_id = job_id_of(request)
    body = await _read(request, RELEASE)
    return _answer(await service_of(request).release_job(job_id, fence=body.fence))


@router.post("/v1/jobs/{id}/heartbeat", operation_id="renew_lease")
async def renew_lease(request: Request) -> Response:
    """Hold a job for longer.

    Its lease then ends `lease` from now. Needed for jobs from `claim`, which no connection renews.
    """
    job_id = job_id_of(request)
    body = await _read(request, HEARTBEAT)
    lease = read_lease(body.lease, "/lease")
    renewed = await service_of(request).renew_lease(job_id, fence=body.fence, lease=lease)
    expires_at = format_instant(renewed.lease_expires_at).encode()
    return Response(b'{"id":%d,"lease_expires_at":"%b"}' % (renewed.id, expires_at), media_type=JSON)


async def _read(request: Request, decoder: msgspec.json.Decoder[T], *, optional: bool = False) -> T:
    return await read_json(request, decoder, limit=limits_of(request).request_bytes, optional=optional)


def _given(fence: int | UnsetType) -> int | None:
    return None if fence is UNSET else fence


def _answer(ack: Ack) -> Response:
    return Response(msgspec.json.encode(ack), media_type=JSON)
