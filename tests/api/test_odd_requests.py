"""No request, however odd, gets a 500."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.wire import enqueue, problem, send

ROUTES = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/bulk"),
    ("PATCH", "/v1/jobs/1"),
    ("POST", "/v1/jobs/1/complete"),
    ("POST", "/v1/jobs/1/retry"),
    ("POST", "/v1/jobs/1/discard"),
    ("POST", "/v1/jobs/1/cancel"),
    ("POST", "/v1/jobs/1/snooze"),
    ("POST", "/v1/jobs/1/release"),
    ("POST", "/v1/jobs/1/heartbeat"),
    ("POST", "/v1/jobs/1/rerun"),
    ("POST", "/v1/jobs/prune"),
    ("POST", "/v1/jobs/query"),
    ("POST", "/v1/executors/mail/claim"),
]
ODD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "zero byte": b"\0",
    "null": b"null",
    "list": b"[]",
    "number": b"1e400",
    "string": b'"x"',
    "long integer": b"1" * 10_000,
    "deep lists": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep without an end": b'{"a":' * 50_000,
    "deep in a member": b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
    "lone surrogate key": b'{"\\udfff":1}',
    "U+0000 key": b'{"\\u0000":1}',
    "odd UTF-8": b'{"a":"\xc0\x80"}',
    "beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "many keys": json.dumps({str(number): number for number in range(10_000)}).encode(),
    "members wrong": b'{"executor":[],"data":1,"tags":{},"delay":{},"error":[],"fence":{},"query":1}',
}
ODD_PATHS = [
    "/%00",
    "/v1/jobs/%00",
    "/v1/jobs/%ff",
    "/v1/jobs/1%2F2",
    "/v1/jobs/../../etc/passwd",
    "/problems/%00",
    "/problems/..%2f",
    "/static/%00",
    "/static/" + "x" * 5000,
    "/static/%ff",
    "/" + "x" * 20_000,
    "/docs?%ff=%00",
    "/v1/executors/%00/subscribe",
]


@pytest.mark.parametrize("name", ODD_BODIES)
async def test_odd_bodies_are_refused(api: httpx2.AsyncClient, name: str) -> None:
    await enqueue(api)
    for method, path in ROUTES:
        answer = await send(api, method, path, ODD_BODIES[name])
        if answer.status_code != 200:
            assert problem(answer)[0] in {400, 409, 422}, (path, answer.text)


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_odd_paths_are_refused(api: httpx2.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "OPTIONS", "TRACE"):
        answer = await api.request(method, path)
        if answer.status_code != 200:
            assert problem(answer)[0] in {404, 405, 422}, (method, answer.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "x"},
        {"content-length": "9" * 400},
        {"content-length": "9" * 5000},
        {"content-length": "²"},
        {"content-type": "\xff"},
        {"if-match": "\xff"},
        {"if-match": '"' + "9" * 5000 + '"'},
        {"if-match": ", " * 5000},
        {"if-match": '"1"' + ", " * 5000 + "x"},
        {"accept": "image/png"},
        {"host": "]["},
    ],
)
async def test_odd_headers_are_refused_or_ignored(api: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    await enqueue(api)
    raw = [
        (name.encode(), value.encode("latin-1" if value.isascii() or "\xff" in value else "utf-8"))
        for name, value in headers.items()
    ]
    if "content-type" not in headers:
        raw.append((b"content-type", b"application/json"))
    answer = await api.request("PATCH", "/v1/jobs/1", content=b'{"priority":1}', headers=raw)
    assert answer.status_code in {200, 412, 413, 415, 422}


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["mail", "PT1S", "2030-01-01T00:00:00Z"])
)
members = st.sampled_from(
    [
        *(
            "executor",
            "data",
            "metadata",
            "max_attempts",
            "scheduled_at",
            "delay",
            "tags",
            "priority",
            "fence",
            "lease",
        ),
        *(
            "uniqueness_criteria",
            "key",
            "duration",
            "statuses",
            "on_conflict",
            "replace",
            "for_statuses",
            "jobs",
            "wait",
        ),
        *(
            "error",
            "error_type",
            "message",
            "next_scheduled_at",
            "query",
            "limit",
            "cursor",
            "and",
            "or",
            "not",
            "force",
        ),
        *("id_in", "data_equals", "status_equal", "status", "prune_by", "max_age", "max_length", "executors", "only"),
    ]
)
bodies = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(members, inner, max_size=5), max_leaves=12
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(ROUTES), body=bodies)
async def test_any_body_gets_an_answer(api: httpx2.AsyncClient, route: tuple[str, str], body: Any) -> None:
    answer = await send(api, *route, json.dumps(body).encode())
    if answer.status_code not in {200, 201}:
        assert problem(answer)[0] in {400, 404, 409, 422}
