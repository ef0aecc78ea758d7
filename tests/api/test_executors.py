"""Claims by long poll, and the list of executors."""

import asyncio
import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.main import create_app
from tests.api.wire import FAILURE, claim, enqueue, get, pointers, problem
from tests.services import in_a_task_of_its_own, new_settings, on_both_databases


@on_both_databases
async def test_a_claim_gives_executing_jobs_best_first(api: httpx2.AsyncClient) -> None:
    for priority in (2, 1, 3):
        await enqueue(api, priority=priority)
    answer = await api.post("/v1/executors/mail/claim", json={"limit": 2, "worker": "w"})
    assert [job["id"] for job in answer.json()["jobs"]] == [2, 1]
    job = answer.json()["jobs"][0]
    assert (job["status"], job["attempt"], job["fence"], job["attempted_by"]) == ("executing", 1, 1, ["w"])
    assert job == await get(api, 2)


@on_both_databases
async def test_a_claim_of_nothing_is_empty(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/v1/executors/mail/claim")).json() == {"jobs": []}


@on_both_databases
async def test_a_claim_that_waits_is_answered_as_soon_as_there_is_a_job(api: httpx2.AsyncClient) -> None:
    waiting = asyncio.create_task(api.post("/v1/executors/mail/claim", json={"wait": "PT30S"}))
    await asyncio.sleep(0.05)  # lets it begin to wait
    await enqueue(api)
    async with asyncio.timeout(5):
        assert [job["id"] for job in (await waiting).json()["jobs"]] == [1]


@on_both_databases
async def test_a_lease_is_as_long_as_it_was_asked_for(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    await enqueue(api)
    assert (await claim(api, lease="PT12H"))["lease_expires_at"] > (await claim(api, lease=1))["lease_expires_at"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"limit": 0}, "/limit"),
        ({"limit": 1001}, "/limit"),
        ({"wait": -1}, "/wait"),
        ({"wait": 60.001}, "/wait"),
        ({"wait": "PT61S"}, "/wait"),
        ({"wait": None}, "/wait"),
        ({"lease": 0.5}, "/lease"),
        ({"lease": "P1D"}, "/lease"),
        ({"worker": ""}, "/worker"),
        ({"worker": "x" * 129}, "/worker"),
        ({"worker": "\0"}, "/worker"),
        ({"unknown": 1}, ""),
    ],
)
@on_both_databases
async def test_a_wrong_claim_is_422(api: httpx2.AsyncClient, body: dict[str, Any], pointer: str) -> None:
    answer = await api.post("/v1/executors/mail/claim", json=body)
    assert problem(answer) == (422, "validation-error")
    assert pointers(answer) == [pointer]


@on_both_databases
async def test_workers_get_the_last_three_errors_cut_at_4_kib(api: httpx2.AsyncClient) -> None:
    await enqueue(api, max_attempts=9)
    for number in range(5):
        error = FAILURE | {"message": f"{number} " + "x" * 10_000}
        await api.post("/v1/jobs/1/retry", json={"delay": 0, "error": error})
    errors = (await claim(api))["errors"]
    assert [error["details"][0] for error in errors] == ["2", "3", "4"]
    assert all(len(error["details"].encode()) <= 4096 for error in errors)
    assert len((await get(api, 1))["errors"]) == 5


@on_both_databases
async def test_executors_are_listed_with_their_counts(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    await enqueue(api, delay=60)
    await enqueue(api, "other", delay=60)
    await claim(api)
    answer = await api.get("/v1/executors")
    none = dict.fromkeys(("scheduled", "executing", "retryable", "complete", "cancelled", "discarded"), 0)
    assert answer.json() == {
        "executors": [
            {
                "executor": "mail",
                "counts": none | {"scheduled": 1, "executing": 1},
                "oldest_ready_at": None,
                "connections": 0,
            },
            {"executor": "other", "counts": none | {"scheduled": 1}, "oldest_ready_at": None, "connections": 0},
        ]
    }


class Caller:
    """A raw ASGI caller, who can leave whenever it wants."""

    def __init__(self, app: Any, body: bytes) -> None:
        self._app = app
        self._body = body
        self._has_sent = False
        self.left = asyncio.Event()
        self.answered: list[Any] = []

    async def call(self, path: str) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.answered.append(message)


async def test_a_caller_that_leaves_while_it_waits_takes_no_job(tmp_path: Path) -> None:
    app = create_app(new_settings(tmp_path))
    async with in_a_task_of_its_own(app.router.lifespan_context(app)):
        caller = Caller(app, b'{"wait":30}')
        call = asyncio.create_task(caller.call("/v1/executors/mail/claim"))
        await asyncio.sleep(0.05)  # lets it begin to wait
        caller.left.set()
        async with asyncio.timeout(5):
            await call
        assert caller.answered == []
        await _nobody_holds_the_next_job(app)


async def test_a_caller_that_is_gone_before_the_answer_gives_its_jobs_back(tmp_path: Path) -> None:
    app = create_app(new_settings(tmp_path))
    async with in_a_task_of_its_own(app.router.lifespan_context(app)):
        service = app.state.service
        caller = Caller(app, b"{}")

        class LeavesLate:
            """The service, whose caller leaves in the very moment in which it has claimed."""

            async def claim_jobs(self, *arguments: Any, **members: Any) -> Any:
                jobs = await service.claim_jobs(*arguments, **members)
                caller.left.set()
                for _ in range(5):
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                return jobs

            give_back = service.give_back

        async with _client(app) as api:
            await enqueue(api)
        app.state.service = LeavesLate()
        await caller.call("/v1/executors/mail/claim")
        app.state.service = service
        assert caller.answered == []
        async with _client(app) as api, asyncio.timeout(5):
            while (await get(api, 1))["status"] != "scheduled":
                await asyncio.sleep(0.01)
            assert (await get(api, 1))["attempt"] == 0


async def _nobody_holds_the_next_job(app: Any) -> None:
    async with _client(app) as api:
        await enqueue(api)
        assert [job.id for job in await app.state.service.claim_jobs("mail", wait=timedelta(seconds=1))] == [1]


def _client(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service")
