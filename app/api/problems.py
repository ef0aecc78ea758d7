"""Every problem that the service can answer: ONE table, and the document that each error becomes (RFC 9457).

No document holds SQL, a path of this machine, a stack trace or what the client sent.
"""

from typing import Any

from msgspec import Struct

from ..domain.errors import (
    DatabaseUnavailable,
    FenceRequired,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InsufficientStorage,
    InvalidTransition,
    JobExecuting,
    JobNotFound,
    JobRefused,
    NotReady,
    PayloadTooLarge,
    QueryTooComplex,
    StaleFence,
    VersionMismatch,
)
from .request_errors import (
    BodyTooLarge,
    FenceMissing,
    ForeignOrigin,
    MalformedJson,
    MethodNotAllowed,
    PathNotFound,
    UnsupportedMediaType,
    ValidationFailed,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1


class Problem(Struct, frozen=True):
    """One kind of problem: its HTTP status, what it means and what to do about it."""

    status: int
    title: str
    meaning: str
    remedy: str


PROBLEMS: dict[str, Problem] = {
    "malformed-json": Problem(
        400,
        "The body is not valid JSON",
        "The body is no JSON text in valid Unicode.",
        "Send one JSON value in UTF-8, without a byte order mark. NaN, Infinity and lone surrogates are no JSON.",
    ),
    "unauthorized": Problem(
        401,
        "A key is needed",
        "The request bears no valid key.",
        "Send the header Authorization: Bearer, followed by a key that is valid.",
    ),
    "forbidden": Problem(
        403,
        "This is not allowed",
        "The key or the origin of the request may not do this.",
        "Use a key with the right scope, or allow the origin in the settings.",
    ),
    "not-found": Problem(
        404,
        "Nothing is served here",
        "There is no resource at this path.",
        "Look the path up in the API's documentation at /docs; paths have no slash at their end.",
    ),
    "job-not-found": Problem(
        404,
        "There is no such job",
        "No job has this id: it was never given, or the job was pruned.",
        "Check the id. A worker may drop what it holds of the job.",
    ),
    "method-not-allowed": Problem(
        405,
        "The method is not allowed here",
        "The path is served, but not by this method.",
        "Use one of the methods in the Allow header.",
    ),
    "invalid-transition": Problem(
        409,
        "The job's status does not allow this",
        "The operation has no meaning for a job in its current status.",
        "Look at current_status. To run a finished job again, use rerun.",
    ),
    "stale-fence": Problem(
        409,
        "The job is no longer held under this fence",
        "The job is not executing under the fence that was given: it was taken back, handed out again or finished.",
        "Stop the work and drop its result: another worker may have the job. Do not repeat the call.",
    ),
    "job-executing": Problem(
        409,
        "The job is executing",
        "A worker holds the job.",
        "Wait until it is finished, or repeat with force to take it from its worker.",
    ),
    "idempotency-in-progress": Problem(
        409,
        "The same request is being served",
        "Another request with the same Idempotency-Key has not been answered yet.",
        "Repeat the request a little later, with the same key.",
    ),
    "version-mismatch": Problem(
        412,
        "The job has changed",
        "The job has another version than If-Match asks for.",
        "Get the job, decide again, and send its new ETag.",
    ),
    "body-too-large": Problem(
        413,
        "The body is too large",
        "The body is longer than this operation takes.",
        "Send less in one request: limits stand in the answer to GET /v1.",
    ),
    "unsupported-media-type": Problem(
        415,
        "The body is not declared as JSON",
        "A body must be sent with the content type application/json, in UTF-8, without a content encoding.",
        "Send the header Content-Type: application/json.",
    ),
    "validation-error": Problem(
        422,
        "Something in the request has a wrong value",
        "The request was understood, and something in it is not what the operation takes.",
        "Each member of errors names one place, as a JSON pointer into the body, and what is right there.",
    ),
    "query-too-complex": Problem(
        422,
        "The query is too complex",
        "The query is deeper, has more nodes or values, or takes longer than is allowed.",
        "Split the query, or ask for less at once. The limits stand in the answer to GET /v1.",
    ),
    "idempotency-mismatch": Problem(
        422,
        "The Idempotency-Key was used for another request",
        "The same key came with another body before.",
        "Use a new key for each request, and the same key only to repeat it byte for byte.",
    ),
    "fence-required": Problem(
        428,
        "A fence is needed",
        "The job is executing, and this service takes acknowledgements of executing jobs only with their fence.",
        "Send the fence that came with the job.",
    ),
    "too-many-requests": Problem(
        429,
        "Too many requests",
        "The client has sent more requests than it may.",
        "Wait for as long as Retry-After says.",
    ),
    "database-unavailable": Problem(
        503,
        "The database does not answer",
        "The database cannot be reached or did not answer in time. Whether the request took effect is unknown.",
        "Repeat it after Retry-After, with the same key or fence.",
    ),
    "not-ready": Problem(
        503,
        "This server is not ready",
        "The server is starting, leaving, or in trouble; another one may serve the request.",
        "Repeat the request after Retry-After.",
    ),
    "insufficient-storage": Problem(
        507,
        "There is no room",
        "The database has no room for more; nothing was changed.",
        "Free space: prune finished jobs, or enlarge the volume.",
    ),
}

SLUGS: dict[type[Exception], str] = {
    MalformedJson: "malformed-json",
    ForeignOrigin: "forbidden",
    PathNotFound: "not-found",
    JobNotFound: "job-not-found",
    MethodNotAllowed: "method-not-allowed",
    InvalidTransition: "invalid-transition",
    StaleFence: "stale-fence",
    JobExecuting: "job-executing",
    IdempotencyInProgress: "idempotency-in-progress",
    VersionMismatch: "version-mismatch",
    BodyTooLarge: "body-too-large",
    UnsupportedMediaType: "unsupported-media-type",
    ValidationFailed: "validation-error",
    PayloadTooLarge: "validation-error",
    QueryTooComplex: "query-too-complex",
    IdempotencyMismatch: "idempotency-mismatch",
    FenceRequired: "fence-required",
    FenceMissing: "fence-required",
    DatabaseUnavailable: "database-unavailable",
    NotReady: "not-ready",
    InsufficientStorage: "insufficient-storage",
}


def problem_document(error: Exception, request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the problem that tell a client of an error; an unknown error becomes a plain 500."""
    slug = _slug(error)
    if slug is None:
        return 500, _unexpected(request_id)
    problem = PROBLEMS[slug]
    return problem.status, {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": _detail(error, problem),
        "instance": f"urn:uuid:{request_id}",
        **_members(error),
    }


def problem_headers(error: Exception, status: int) -> dict[str, str]:
    """Return the headers that go with the problem."""
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}


def _slug(error: Exception) -> str | None:
    return next((SLUGS[kind] for kind in type(error).__mro__ if kind in SLUGS), None)


def _unexpected(request_id: str) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "The service failed at this request. Its log knows more under the request id.",
        "instance": f"urn:uuid:{request_id}",
    }


def _detail(error: Exception, problem: Problem) -> str:
    """Return a sentence on this very occurrence, made only of what the service itself knows."""
    match error:
        case JobNotFound():
            return f"No job has the id {error.job_id}."
        case JobRefused():
            return f"Job {error.job_id} is {error.current_status}. {problem.meaning}"
        case VersionMismatch():
            return f"Job {error.job_id} has version {error.version}."
        case BodyTooLarge():
            return f"The body is longer than {error.limit_bytes} bytes."
        case ValidationFailed(faults=(fault,)):
            return f"{fault.pointer or 'The request'}: {fault.message}."
        case ValidationFailed():
            return f"{len(error.faults)} values are wrong."
        case PayloadTooLarge():
            return f"{error.pointer}/data: {_payload_message(error)}."
        case MethodNotAllowed():
            return f"Allowed here: {', '.join(error.allowed)}."
        case FenceMissing():
            return "Over a stream each acknowledgement bears the fence that came with the job."
        case NotReady() if error.args:
            return str(error)
        case _:
            return problem.meaning


def _members(error: Exception) -> dict[str, Any]:
    match error:
        case JobNotFound():
            return {"job_id": error.job_id}
        case JobRefused():
            return {"job_id": error.job_id, "current_status": error.current_status.value}
        case VersionMismatch():
            return {"job_id": error.job_id, "current_version": error.version}
        case BodyTooLarge():
            return {"limit_bytes": error.limit_bytes}
        case ValidationFailed():
            return {"errors": [{"pointer": fault.pointer, "message": fault.message} for fault in error.faults]}
        case PayloadTooLarge():
            return {"errors": [{"pointer": f"{error.pointer}/data", "message": _payload_message(error)}]}
        case _:
            return {}


def _payload_message(error: PayloadTooLarge) -> str:
    return f"must have, with metadata, at most {error.payload_bytes} bytes as compact JSON in UTF-8"
