"""What every answer bears, and which pages of a browser's may reach the service."""

from pathlib import Path

import httpx2
import pytest

from app.api.origin import check_origin
from app.api.request_errors import ForeignOrigin
from app.main import create_app
from tests.api.wire import problem
from tests.services import new_settings

NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("HEAD", "/v1", 200),
        ("GET", "/v1/executors", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/asyncapi.json", 200),
        ("GET", "/", 307),
        ("GET", "/nowhere", 404),
        ("GET", "/static/nothing", 404),
        ("GET", "/v1/jobs/1", 404),
        ("PUT", "/v1", 405),
        ("POST", "/static/docs.js", 405),
        ("POST", "/v1/jobs", 400),
        ("GET", "/v1/jobs/x", 422),
    ],
)
async def test_an_answer_may_load_nothing_and_is_kept_nowhere(
    api: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await api.request(method, path)
    assert answer.status_code == status
    assert_secured(answer, policy=NOTHING, cache="no-store")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/asyncapi", "/problems/forbidden"])
async def test_a_page_has_one_policy_of_its_own(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    (policy,) = answer.headers.get_list("content-security-policy")
    assert "'self'" in policy
    assert_secured(answer, policy=policy, cache="no-store")


async def test_files_of_pages_are_asked_for_again_after_an_upgrade(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/static/docs.js")
    (policy,) = answer.headers.get_list("content-security-policy")
    assert_secured(answer, policy=policy, cache="no-cache")
    same = await api.get("/static/docs.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert_secured(same, policy=policy, cache="no-cache")


async def test_a_failure_nobody_foresaw_is_secured_too(tmp_path: Path) -> None:
    app = create_app(new_settings(tmp_path))
    app.state.service = object()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
        answer = await client.get("/v1/executors")
    assert answer.status_code == 500
    assert_secured(answer, policy=NOTHING, cache="no-store")


def assert_secured(answer: httpx2.Response, *, policy: str, cache: str) -> None:
    for name, value in {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": policy,
        "cache-control": cache,
        "x-request-id": answer.headers.get("x-request-id"),
    }.items():
        assert answer.headers.get_list(name) == [value], name


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "jobs.example.org"),
        ("http://jobs.example.org", "jobs.example.org"),
        ("https://jobs.example.org", "jobs.example.org"),
        ("http://jobs.example.org", "jobs.example.org:80"),
        ("https://jobs.example.org", "JOBS.example.org:443"),
        ("https://jobs.example.org:443", "jobs.example.org"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:80", "[::1]"),
        ("https://allowed.example", "jobs.example.org"),
    ],
)
def test_a_page_of_our_own_or_an_allowed_one_may_reach_the_service(origin: str | None, host: str) -> None:
    check_origin(origin, host, {"https://allowed.example"})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://elsewhere.example", "jobs.example.org"),
        ("null", "jobs.example.org"),
        ("null", ""),
        ("", ""),
        ("http://", ""),
        ("file://", ""),
        ("http://[", "jobs.example.org"),
        ("http://jobs.example.org:8000", "jobs.example.org"),
        ("http://jobs.example.org", "jobs.example.org:8000"),
        ("http://jobs.example.org", "jobs.example.org:443"),
        ("https://jobs.example.org", "jobs.example.org:80"),
        ("ftp://jobs.example.org", "jobs.example.org"),
        ("http://jobs.example.org.elsewhere.example", "jobs.example.org"),
        ("http://user@jobs.example.org", "jobs.example.org"),
        ("jobs.example.org", "jobs.example.org"),
        ("https://allowed.example.org", "jobs.example.org"),
    ],
)
def test_a_foreign_page_may_not(origin: str, host: str) -> None:
    with pytest.raises(ForeignOrigin):
        check_origin(origin, host, {"https://allowed.example"})


@pytest.mark.parametrize("path", ["/v1/jobs/1/complete", "/v1/jobs/1/rerun", "/v1/executors/mail/claim"])
async def test_a_foreign_page_cannot_send_what_needs_no_body(api: httpx2.AsyncClient, path: str) -> None:
    """A browser asks nobody before it posts nothing; for a body of JSON it does."""
    assert (await api.post("/v1/jobs", json={"executor": "mail"})).status_code == 201
    assert problem(await api.post(path, headers={"Origin": "https://elsewhere.example"})) == (403, "forbidden")
    assert (await api.get("/v1/jobs/1")).json()["version"] == 1
    assert (await api.post(path, headers={"Origin": "http://service"})).status_code == 200
