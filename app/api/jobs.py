"""Routes of jobs: bring them, look at them, change them."""
# ruff: noqa: FAST003  A DirectRoute reads its path itself.

import re

import msgspec
from fastapi import APIRouter, Request, Response

from ..domain.errors import PayloadTooLarge, QueryTooComplex
from ..domain.job import Enqueued, EnqueueOutcome, Job
from ..domain.limits import MAX_PAGE_BYTES
from .dependencies import job_id_of, limits_of, service_of
from .direct_route import DirectRoute
from .idempotency import read_repeatable, replay_headers, turn_of
from .job_body import ENQUEUE, ENQUEUE_MANY, UPDATE, read_changes, read_job, read_jobs
from .job_json import encode_job
from .json_body import read_json
from .mark_body import RERUN
from .prune_body import PRUNE, read_prune_spec
from .query_body import QUERY, read_cursor, read_query, write_cursor
from .request_errors import TooDeeplyNested, invalid

JSON = "application/json"

router = APIRouter(route_class=DirectRoute, tags=["jobs"])

_TAG = re.compile(r'"([0-9]{1,19})"', re.ASCII)


@router.post("/v1/jobs", operation_id="enqueue", status_code=201)
async def enqueue(request: Request) -> Response:
    """Enqueue a job.

    The job is durable once this answers: 201 with its id, or 200 with the id of the duplicate that its
    `uniqueness_criteria` found. Workers waiting for its executor get it as soon as it is due. With an `Idempotency-Key`
    it may be repeated without enqueueing twice.
    """
    limits = limits_of(request)
    body, call = await read_repeatable(request, ENQUEUE, "enqueue", limit=limits.request_bytes)
    job = read_job(body, limits)
    if call is None:
        # Thousands of these come each second: they pass no context that is not for them.
        return _enqueued_response(await service_of(request).enqueue(job), {})
    async with turn_of(request, call):
        enqueued = await service_of(request).enqueue(job, idempotency=call)
    return _enqueued_response(enqueued, replay_headers(call))


@router.post("/v1/jobs/bulk", operation_id="enqueue_many")
async def enqueue_many(request: Request) -> Response:
    """Enqueue many jobs at once.

    All of them or, when one is wrong, none; the results stand in the order of the jobs. Later jobs see earlier ones as
    duplicates. With an `Idempotency-Key` it may be repeated without enqueueing twice.
    """
    limits = limits_of(request)
    body, call = await read_repeatable(request, ENQUEUE_MANY, "enqueue_many", limit=limits.bulk_bytes)
    jobs = read_jobs(body.jobs, limits)
    try:
        async with turn_of(request, call):
            results = await service_of(request).enqueue_many(jobs, idempotency=call)
    except PayloadTooLarge as error:
        error.pointer = f"/jobs/{error.index}"
        raise
    return Response(msgspec.json.encode({"results": results}), headers=replay_headers(call), media_type=JSON)


@router.get("/v1/jobs/{id}", operation_id="get_job")
async def get_job(request: Request) -> Response:
    """Get a job.

    Its `version` is also the `ETag`, for an `If-Match` of an update.
    """
    job_id = job_id_of(request)
    return _job_response(await service_of(request).get_job(job_id))


@router.patch("/v1/jobs/{id}", operation_id="update_job")
async def update_job(request: Request) -> Response:
    """Change members of a job, in any status.

    What is not in the body stays as it is. A worker that runs the job keeps the copy that it got. With `If-Match` the
    change is made only if the job still has one of these versions.
    """
    limits = limits_of(request)
    job_id = job_id_of(request)
    if_match = _read_if_match(request)
    body = await read_json(request, UPDATE, limit=limits.request_bytes, optional=True)
    changes = read_changes(body, limits)
    return _job_response(await service_of(request).update_job(job_id, changes, if_match=if_match))


@router.post("/v1/jobs/{id}/rerun", operation_id="rerun_job")
async def rerun_job(request: Request) -> Response:
    """Run a job once more, now.

    From any status; the job gets one attempt more. An executing job is refused unless `force` takes it from its worker.
    With an `Idempotency-Key` it may be repeated without running the job twice.
    """
    job_id = job_id_of(request)
    limit = limits_of(request).request_bytes
    body, call = await read_repeatable(request, RERUN, "rerun_job", limit=limit, optional=True)
    async with turn_of(request, call):
        ack = await service_of(request).rerun_job(job_id, force=body.force, idempotency=call)
    return Response(msgspec.json.encode(ack), headers=replay_headers(call), media_type=JSON)


@router.post("/v1/jobs/prune", operation_id="prune_jobs")
async def prune_jobs(request: Request) -> Response:
    """Delete jobs of one status by age or number.

    Finished jobs: `max_age` deletes what was scheduled longer ago, `max_length` keeps the latest scheduled. Scheduled
    and retryable jobs: `max_age` deletes what is scheduled further ahead, `max_length` keeps the soonest. It works in
    batches; repeating it is safe.
    """
    body = await read_json(request, PRUNE, limit=limits_of(request).request_bytes)
    deleted = await service_of(request).prune_jobs(read_prune_spec(body), dry_run=body.dry_run)
    return Response(b'{"deleted":%d}' % deleted, media_type=JSON)


@router.post("/v1/jobs/query", operation_id="query")
async def query(request: Request) -> Response:
    """Find jobs.

    The query is a tree of objects with one member each. Jobs come highest id first, in pages: `next_cursor` leads to
    the next one, and is null on the last. Pages see the changes made between them.
    """
    try:
        body = await read_json(request, QUERY, limit=limits_of(request).request_bytes)
    except TooDeeplyNested:
        raise QueryTooComplex from None
    before = read_cursor(body.cursor)
    page = await service_of(request).query(read_query(body.query), limit=body.limit, before=before)
    jobs, next_before = _encode_page(page.jobs, page.next_before)
    cursor = msgspec.json.encode(write_cursor(next_before))
    return Response(b'{"jobs":[%b],"next_cursor":%b}' % (b",".join(jobs), cursor), media_type=JSON)


def _enqueued_response(enqueued: Enqueued, headers: dict[str, str]) -> Response:
    headers["location"] = f"/v1/jobs/{enqueued.id}"
    return Response(
        b'{"id":%d,"outcome":"%b"}' % (enqueued.id, enqueued.outcome.encode()),
        201 if enqueued.outcome is EnqueueOutcome.INSERTED else 200,
        headers,
        JSON,
    )


def _job_response(job: Job) -> Response:
    return Response(encode_job(job), headers={"etag": f'"{job.version}"'}, media_type=JSON)


def _read_if_match(request: Request) -> frozenset[int] | None:
    """Return the versions of which the job must have one; None when any will do."""
    given = request.headers.getlist("if-match")
    if not given:
        return None
    tags = [tag.strip(" \t") for tag in ",".join(given).split(",")]
    if tags == ["*"]:
        return None
    matches = [_TAG.fullmatch(tag) for tag in tags if tag]
    versions = [match[1] for match in matches if match]
    if not versions or len(versions) < len(matches):
        raise invalid("", 'the header If-Match must be * or a list of ETags such as "7"')
    # An ETag is compared by its characters: "07" is a tag that no job has.
    return frozenset(int(version) for version in versions if version == str(int(version)))


def _encode_page(jobs: list[Job], next_before: int | None) -> tuple[list[bytes], int | None]:
    """Encode the jobs of a page until it is full; return also the id below which the next page begins."""
    encoded: list[bytes] = []
    size = 0
    for index, job in enumerate(jobs):
        text = encode_job(job)
        size += len(text)
        if size > MAX_PAGE_BYTES and encoded:
            return encoded, jobs[index - 1].id
        encoded.append(text)
    return encoded, next_before
