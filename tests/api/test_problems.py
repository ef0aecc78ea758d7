"""Problems: their documents, their pages, and the headers that go with them."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from app.api.problems import PROBLEMS, SLUGS, problem_document
from app.backend.extensions import Health
from app.domain import errors
from app.domain.status import JobStatus
from app.main import create_app
from tests.api.wire import problem
from tests.services import new_settings

REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
CONTRACT = {
    400: {"malformed-json"},
    401: {"unauthorized"},
    403: {"forbidden"},
    404: {"not-found", "job-not-found"},
    405: {"method-not-allowed"},
    409: {"invalid-transition", "stale-fence", "job-executing", "idempotency-in-progress"},
    412: {"version-mismatch"},
    413: {"body-too-large"},
    415: {"unsupported-media-type"},
    422: {"validation-error", "query-too-complex", "idempotency-mismatch"},
    428: {"fence-required"},
    429: {"too-many-requests"},
    503: {"database-unavailable", "not-ready"},
    507: {"insufficient-storage"},
}


def test_the_table_has_the_slugs_of_the_contract_with_their_statuses() -> None:
    assert {slug: kind.status for slug, kind in PROBLEMS.items()} == {
        slug: status for status, slugs in CONTRACT.items() for slug in slugs
    }


def test_every_error_of_the_domain_has_a_problem() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert kinds - {errors.BackendError, errors.JobRefused, errors.OutcomeUnknown} <= SLUGS.keys()


@pytest.mark.parametrize("slug", PROBLEMS)
async def test_every_problem_has_a_page(api: httpx2.AsyncClient, slug: str) -> None:
    answer = await api.get(f"/problems/{slug}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert slug in answer.text
    assert str(PROBLEMS[slug].status) in answer.text


async def test_an_unknown_problem_has_no_page(api: httpx2.AsyncClient) -> None:
    assert problem(await api.get("/problems/<script>")) == (404, "not-found")


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1/jobs/", "/v1/", "/v2/jobs", "//v1/jobs", "/static/nothing", "/docs/"]
)
async def test_an_unknown_path_is_404(api: httpx2.AsyncClient, path: str) -> None:
    assert problem(await api.get(path)) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/jobs", "POST"),
        ("DELETE", "/v1/jobs/1", "GET, HEAD, PATCH"),
        ("GET", "/v1/jobs/1/complete", "POST"),
        ("PUT", "/v1", "GET, HEAD"),
        ("POST", "/static/docs.js", "GET, HEAD"),
        ("BREW", "/livez", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_served_is_405_with_those_that_are(
    api: httpx2.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)
    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1", "/livez", "/docs", "/v1/executors"])
async def test_head_answers_as_get_without_the_body(api: httpx2.AsyncClient, path: str) -> None:
    head, get = await api.head(path), await api.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/livez"), ("POST", "/v1/jobs"), ("GET", "/nowhere"), ("PUT", "/v1"), ("GET", "/static/docs.js")],
)
async def test_every_answer_bears_a_request_id_of_its_own(api: httpx2.AsyncClient, method: str, path: str) -> None:
    ids = [
        (await api.request(method, path, headers={"x-request-id": "mine"})).headers["x-request-id"] for _ in range(2)
    ]
    assert ids[0] != ids[1]
    assert all(REQUEST_ID.fullmatch(given) for given in ids)


async def test_before_it_has_started_the_service_is_not_ready(tmp_path: Path) -> None:
    app = create_app(new_settings(tmp_path))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        assert (await client.get("/livez")).status_code == 200
        for answer in (await client.get("/readyz"), await client.get("/v1/executors")):
            assert problem(answer) == (503, "not-ready")
            assert answer.headers["retry-after"] == "1"


class Failing:
    """A service of which every call raises the same error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def call(*_arguments: Any, **_members: Any) -> Any:
            raise self._error

        return call


async def answer_to(error: Exception, tmp_path: Path) -> httpx2.Response:
    app = create_app(new_settings(tmp_path))
    app.state.service = Failing(error)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        return await client.post("/v1/jobs", json={"executor": "mail"})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.JobNotFound(7), (404, "job-not-found")),
        (errors.InvalidTransition(7, JobStatus.COMPLETE), (409, "invalid-transition")),
        (errors.StaleFence(7, JobStatus.COMPLETE), (409, "stale-fence")),
        (errors.JobExecuting(7, JobStatus.EXECUTING), (409, "job-executing")),
        (errors.VersionMismatch(7, 3), (412, "version-mismatch")),
        (errors.PayloadTooLarge(10), (422, "validation-error")),
        (errors.QueryTooComplex(), (422, "query-too-complex")),
        (errors.FenceRequired(7, JobStatus.EXECUTING), (428, "fence-required")),
        (errors.DatabaseUnavailable("SELECT s3cret"), (503, "database-unavailable")),
        (errors.NotReady(), (503, "not-ready")),
        (errors.InsufficientStorage("/s3cret"), (507, "insufficient-storage")),
    ],
)
async def test_each_error_of_the_service_is_answered_as_its_problem(
    tmp_path: Path, error: Exception, expected: tuple[int, str]
) -> None:
    answer = await answer_to(error, tmp_path)
    assert problem(answer) == expected
    assert ("retry-after" in answer.headers) == (answer.status_code == 503)
    assert "s3cret" not in answer.text


async def test_a_failure_nobody_foresaw_is_a_problem_without_its_text_and_logged_once(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as events:
        answer = await answer_to(RuntimeError("s3cret"), tmp_path)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    request_id = answer.headers["x-request-id"]
    assert answer.json()["type"] == "about:blank"
    assert answer.json()["instance"] == f"urn:uuid:{request_id}"
    assert "s3cret" not in answer.text
    assert [(event["event"], event["request_id"]) for event in events] == [("request.failed", request_id)]


def test_a_problem_of_a_job_names_it_and_its_status() -> None:
    status, document = problem_document(errors.StaleFence(7, JobStatus.COMPLETE), "id")
    assert status == 409
    assert (document["job_id"], document["current_status"]) == (7, "complete")
    assert document["instance"] == "urn:uuid:id"


async def test_the_service_tells_what_it_is(api: httpx2.AsyncClient) -> None:
    info = (await api.get("/v1")).json()
    assert info["protocol"] == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", info["version"])
    assert info["features"]
    assert info["limits"]["request_bytes"] == 1024 * 1024
    assert info["limits"]["bulk_jobs"] == 10_000


async def test_a_running_service_lives_and_is_ready(api: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/readyz"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"database": False, "schema_fits": False}, "database does not answer"),
        ({"schema_fits": False}, "migrate"),
        ({"dead_loops": ("rescuer",)}, "rescuer"),
        ({"draining": True}, "draining"),
    ],
)
async def test_a_server_in_trouble_is_not_ready_and_says_why(
    tmp_path: Path, members: dict[str, Any], complaint: str
) -> None:
    class Unwell:
        async def health(self) -> Health:
            return Health(**({"database": True, "schema_fits": True, "dead_loops": ()} | members))

    app = create_app(new_settings(tmp_path))
    app.state.service = Unwell()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        answer = await client.get("/readyz")
    assert problem(answer) == (503, "not-ready")
    assert complaint in answer.json()["detail"]
