"""What the client raises: the service's problems, and what keeps it from answering."""

from typing import Any, ClassVar


class RexecutorError(Exception):
    """Anything that this package raises on purpose."""


class InvalidUrl(RexecutorError, ValueError):
    """What is to be the service's URL is none."""


class ServiceUnreachable(RexecutorError):
    """The service did not answer, or not in time."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        """Whether the call may have reached the service; then whether it took effect is unknown."""


class UnexpectedAnswer(RexecutorError):
    """What answered does not speak the contract: a proxy's page, perhaps, or another service."""


class Problem(RexecutorError):
    """The service refused; a 4xx has changed nothing, after a 5xx the outcome is unknown.

    One class for each slug that the contract names; another slug is a ``Problem`` itself.
    """

    slug: ClassVar[str] = ""

    def __init__(self, status: int, document: dict[str, Any], *, retry_after: float | None = None) -> None:
        """Take a problem document (RFC 9457) and the seconds of ``Retry-After``."""
        self.status = status
        self.type: str = document.get("type", "about:blank")
        self.title: str = document.get("title", "")
        self.detail: str = document.get("detail", "")
        self.instance: str | None = document.get("instance")
        """``urn:uuid:`` of the request id, by which the service's log knows the call."""
        self.document = document
        self.retry_after = retry_after
        super().__init__(self.detail or self.title or f"the service answered {status}")


class JobProblem(Problem):
    """A problem with one job."""

    @property
    def job_id(self) -> int | None:
        """The job."""
        return self.document.get("job_id")

    @property
    def current_status(self) -> str | None:
        """Its status, where the service told it."""
        return self.document.get("current_status")


class InvalidRequest(Problem):
    """The service could not take what was sent; ``errors`` says where and why."""

    @property
    def errors(self) -> list[dict[str, str]]:
        """``pointer`` and ``message`` of each thing that is wrong."""
        errors: list[dict[str, str]] = self.document.get("errors", [])
        return errors


class Unavailable(Problem):
    """The service cannot answer now; the client has tried again, for as long as it was allowed to."""

    may_have_been_done: ClassVar[bool] = False


class MalformedJson(InvalidRequest):
    """What was sent is no JSON text."""

    slug = "malformed-json"


class Unauthorized(Problem):
    """The API key is missing or wrong."""

    slug = "unauthorized"


class Forbidden(Problem):
    """The API key does not allow it."""

    slug = "forbidden"


class NotFound(Problem):
    """There is no such path."""

    slug = "not-found"


class JobNotFound(JobProblem):
    """No job has this id."""

    slug = "job-not-found"


class MethodNotAllowed(Problem):
    """The path does not take this method."""

    slug = "method-not-allowed"


class InvalidTransition(JobProblem):
    """The operation has no meaning for a job of this status."""

    slug = "invalid-transition"


class StaleFence(JobProblem):
    """The job is not executing under this fence: it was taken away, or acknowledged."""

    slug = "stale-fence"


class JobExecuting(JobProblem):
    """A worker holds the job; ``force`` would take it away."""

    slug = "job-executing"


class IdempotencyInProgress(Unavailable):
    """The call with the same key has not ended yet."""

    slug = "idempotency-in-progress"


class VersionMismatch(JobProblem):
    """The job has changed since it was read."""

    slug = "version-mismatch"


class BodyTooLarge(InvalidRequest):
    """The request is larger than the service takes."""

    slug = "body-too-large"


class UnsupportedMediaType(Problem):
    """The request does not say that it is JSON."""

    slug = "unsupported-media-type"


class ValidationError(InvalidRequest):
    """A member is missing, unknown or wrong."""

    slug = "validation-error"


class QueryTooComplex(InvalidRequest):
    """The query is too large, or took too long."""

    slug = "query-too-complex"


class IdempotencyMismatch(Problem):
    """The key came with another request before."""

    slug = "idempotency-mismatch"


class FenceRequired(JobProblem):
    """The service takes this only under the fence of the claim."""

    slug = "fence-required"


class TooManyRequests(Unavailable):
    """The service is asked too often."""

    slug = "too-many-requests"


class DatabaseUnavailable(Unavailable):
    """The service does not reach its database; whether the call took effect is unknown."""

    slug = "database-unavailable"
    may_have_been_done = True


class NotReady(Unavailable):
    """The server starts or leaves."""

    slug = "not-ready"


class InsufficientStorage(Problem):
    """The service has no room for more jobs."""

    slug = "insufficient-storage"


def problem_of(status: int, document: dict[str, Any], *, retry_after: float | None = None) -> Problem:
    """Return the exception for a problem document."""
    slug = str(document.get("type", "")).rpartition("/")[2]
    return _BY_SLUG.get(slug, Problem)(status, document, retry_after=retry_after)


def _leaves(kind: type[Problem]) -> list[type[Problem]]:
    below = [leaf for child in kind.__subclasses__() for leaf in _leaves(child)]
    return [*([kind] if kind.slug else []), *below]


_BY_SLUG = {kind.slug: kind for kind in _leaves(Problem)}
