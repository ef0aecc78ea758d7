"""What the client raises: the service's problems, and what keeps it from answering."""

from typing import Any, ClassVar


class RexecutorError(Exception):
    """Anything that this package raises on purpose."""


class ServiceUnreachable(RexecutorError):
    """The service did not answer: no connection, or none in time. Whether the call took effect is unknown."""


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


class MalformedJson(InvalidRequest):
    slug = "malformed-json"


class Unauthorized(Problem):
    slug = "unauthorized"


class Forbidden(Problem):
    slug = "forbidden"


class NotFound(Problem):
    slug = "not-found"


class JobNotFound(JobProblem):
    slug = "job-not-found"


class MethodNotAllowed(Problem):
    slug = "method-not-allowed"


class InvalidTransition(JobProblem):
    slug = "invalid-transition"


class StaleFence(JobProblem):
    slug = "stale-fence"


class JobExecuting(JobProblem):
    slug = "job-executing"


class IdempotencyInProgress(Problem):
    slug = "idempotency-in-progress"


class VersionMismatch(JobProblem):
    slug = "version-mismatch"


class BodyTooLarge(InvalidRequest):
    slug = "body-too-large"


class UnsupportedMediaType(Problem):
    slug = "unsupported-media-type"


class ValidationError(InvalidRequest):
    slug = "validation-error"


class QueryTooComplex(InvalidRequest):
    slug = "query-too-complex"


class IdempotencyMismatch(Problem):
    slug = "idempotency-mismatch"


class FenceRequired(JobProblem):
    slug = "fence-required"


class TooManyRequests(Unavailable):
    slug = "too-many-requests"


class DatabaseUnavailable(Unavailable):
    slug = "database-unavailable"


class NotReady(Unavailable):
    slug = "not-ready"


class InsufficientStorage(Problem):
    slug = "insufficient-storage"


def problem_of(status: int, document: dict[str, Any], *, retry_after: float | None = None) -> Problem:
    """Return the exception for a problem document."""
    slug = str(document.get("type", "")).rpartition("/")[2]
    return _BY_SLUG.get(slug, Problem)(status, document, retry_after=retry_after)


def _leaves(kind: type[Problem]) -> list[type[Problem]]:
    below = [leaf for child in kind.__subclasses__() for leaf in _leaves(child)]
    return [*([kind] if kind.slug else []), *below]


_BY_SLUG = {kind.slug: kind for kind in _leaves(Problem)}
