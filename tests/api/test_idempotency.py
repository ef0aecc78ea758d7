"""`Idempotency-Key` over HTTP: a repeat gets the first answer again, and changes nothing."""

import asyncio
import string
from typing import Any

import httpx2
import pytest

from app.api.idempotency import WAIT_SECONDS
from app.backend.extensions import Service
from tests.api.wire import FAILURE, claim, enqueue, get, pointers, problem, send
from tests.held_writer import until_waiting, writer_held

KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
JOB = b'{"executor":"mail","data":1}'
VISIBLE = (string.ascii_letters + string.digits + string.punctuation).encode()


async def keyed(
    api: httpx2.AsyncClient, key: str = "k", *, path: str = "/v1/jobs", body: bytes = JOB
) -> httpx2.Response:
    return await send(api, "POST", path, body, **{KEY: key})


async def number_of_jobs(api: httpx2.AsyncClient) -> int:
    answer = await api.post("/v1/jobs/query", json={"query": {"and": []}, "limit": 1000})
    return len(answer.json()["jobs"])


def service_behind(api: httpx2.AsyncClient) -> Service:
    transport: Any = api._transport
    service: Service = transport.app.state.service
    return service


def assert_replays(first: httpx2.Response, repeat: httpx2.Response) -> None:
    assert first.status_code < 300, first.text
    assert REPLAYED not in first.headers
    assert repeat.headers[REPLAYED] == "true"
    assert (repeat.status_code, repeat.content) == (first.status_code, first.content)
    assert repeat.headers.get("location") == first.headers.get("location")
    assert repeat.headers["content-type"] == first.headers["content-type"]
    assert repeat.headers["x-request-id"] != first.headers["x-request-id"]


async def test_a_repeated_enqueue_is_201_again_with_its_location(api: httpx2.AsyncClient) -> None:
    first, repeat = await keyed(api), await keyed(api)
    assert first.status_code == 201
    assert_replays(first, repeat)
    assert await number_of_jobs(api) == 1


async def test_without_a_key_nothing_is_a_repeat(api: httpx2.AsyncClient) -> None:
    answers = [await send(api, "POST", "/v1/jobs", JOB) for _ in range(2)]
    assert [answer.json()["id"] for answer in answers] == [1, 2]
    assert all(REPLAYED not in answer.headers for answer in answers)


async def test_a_replay_tells_what_was_done_then_not_what_stands_now(api: httpx2.AsyncClient) -> None:
    body = b'{"executor":"mail","uniqueness_criteria":{"key":"u","on_conflict":{"replace":["data"]}}}'
    inserted = await keyed(api, "a", body=body)
    replaced = await keyed(api, "b", body=body)
    assert [answer.json()["outcome"] for answer in (inserted, replaced)] == ["inserted", "replaced"]
    await api.post("/v1/jobs/1/cancel", json={"error": FAILURE})
    assert (await api.post("/v1/jobs/prune", json={"status": "cancelled", "prune_by": {"max_length": 0}})).json() == {
        "deleted": 1
    }
    assert_replays(inserted, await keyed(api, "a", body=body))
    assert_replays(replaced, await keyed(api, "b", body=body))
    assert await number_of_jobs(api) == 0


async def test_a_repeated_bulk_gives_the_same_results(api: httpx2.AsyncClient) -> None:
    body = b'{"jobs":[%b,%b]}' % (JOB, JOB)
    first = await keyed(api, path="/v1/jobs/bulk", body=body)
    assert [each["id"] for each in first.json()["results"]] == [1, 2]
    assert_replays(first, await keyed(api, path="/v1/jobs/bulk", body=body))
    assert await number_of_jobs(api) == 2


async def test_a_repeated_rerun_gives_no_second_attempt(api: httpx2.AsyncClient) -> None:
    await enqueue(api, max_attempts=3)
    await api.post("/v1/jobs/1/complete", json={})
    first = await keyed(api, path="/v1/jobs/1/rerun", body=b"")
    assert first.json() == {"id": 1, "status": "scheduled", "duplicate": False}
    await claim(api)
    assert_replays(first, await keyed(api, path="/v1/jobs/1/rerun", body=b""))
    job = await get(api, 1)
    assert (job["status"], job["max_attempts"]) == ("executing", 4)


@pytest.mark.parametrize("body", [b'{"executor":"mail","data":2}', JOB + b" "])
async def test_another_body_under_the_same_key_is_a_mismatch(api: httpx2.AsyncClient, body: bytes) -> None:
    first = await keyed(api)
    answer = await keyed(api, body=body)
    assert problem(answer) == (422, "idempotency-mismatch")
    assert REPLAYED not in answer.headers
    assert await number_of_jobs(api) == 1
    assert_replays(first, await keyed(api))


async def test_a_key_holds_for_one_operation_and_path(api: httpx2.AsyncClient) -> None:
    bulk = b'{"jobs":[%b]}' % JOB
    answers = [
        await keyed(api),
        await keyed(api, path="/v1/jobs/bulk", body=bulk),
        await keyed(api, path="/v1/jobs/1/rerun", body=b"{}"),
        await keyed(api, path="/v1/jobs/2/rerun", body=b'{"force":true}'),
    ]
    assert [(answer.status_code, REPLAYED in answer.headers) for answer in answers] == [
        (201, False),
        (200, False),
        (200, False),
        (200, False),
    ]


async def test_what_was_refused_is_not_kept(api: httpx2.AsyncClient) -> None:
    assert problem(await keyed(api, body=b'{"executor":"mail","priority":-1}')) == (422, "validation-error")
    assert problem(await keyed(api, body=b'{"executor":')) == (400, "malformed-json")
    assert (await keyed(api)).status_code == 201
    assert problem(await keyed(api, path="/v1/jobs/2/rerun")) == (422, "validation-error")
    assert problem(await keyed(api, path="/v1/jobs/2/rerun", body=b"{}")) == (404, "job-not-found")
    await enqueue(api)
    rerun = await keyed(api, path="/v1/jobs/2/rerun", body=b"{}")
    assert (rerun.status_code, REPLAYED in rerun.headers) == (200, False)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/bulk", "/v1/jobs/1/rerun"])
async def test_a_key_is_1_to_255_visible_characters(api: httpx2.AsyncClient, path: str) -> None:
    body = {"/v1/jobs": JOB, "/v1/jobs/bulk": b'{"jobs":[%b]}' % JOB}.get(path, b"{}")
    wrong = [[b""], [b" "], [b"a b"], [b"a\tb"], [b"\x7f"], ["ä".encode()], [b"\xe4"], [b"k" * 256], [b"k", b"k"]]
    for keys in wrong:
        headers = [(b"Content-Type", b"application/json"), *((KEY.encode(), key) for key in keys)]
        answer = await api.request("POST", path, content=body, headers=headers)
        assert problem(answer) == (422, "validation-error"), keys
        assert pointers(answer) == [""]
    assert await number_of_jobs(api) == 0


async def test_keys_are_compared_by_their_characters(api: httpx2.AsyncClient) -> None:
    keys = ["k", "K", '"k"', "k,k", "kk", VISIBLE.decode(), "k" * 255]
    assert len(VISIBLE) == 94
    for _ in range(2):
        answers = [await keyed(api, key) for key in keys]
        assert [answer.json()["id"] for answer in answers] == list(range(1, len(keys) + 1))


async def test_other_operations_take_no_notice_of_a_key(api: httpx2.AsyncClient) -> None:
    await enqueue(api)
    for _ in range(2):
        answer = await keyed(api, "a b", path="/v1/jobs/1/complete", body=b"{}")
        assert (answer.status_code, REPLAYED in answer.headers) == (200, False)


async def test_of_twenty_racing_repeats_one_enqueues(api: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(keyed(api) for _ in range(20)))
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, b'{"id":1,"outcome":"inserted"}')}
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert await number_of_jobs(api) == 1


async def test_of_racing_requests_with_other_bodies_one_enqueues(api: httpx2.AsyncClient) -> None:
    bodies = [b'{"executor":"mail","data":%d}' % number for number in range(20)]
    answers = await asyncio.gather(*(keyed(api, body=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 19
    assert await number_of_jobs(api) == 1


async def test_a_repeat_waits_for_the_first_to_end(api: httpx2.AsyncClient) -> None:
    service = service_behind(api)
    async with writer_held(service):
        first = asyncio.create_task(keyed(api))
        await until_waiting(service, 1)
        repeat = asyncio.create_task(keyed(api))
        other = asyncio.create_task(keyed(api, "other"))
        await until_waiting(service, 2)
        assert not repeat.done()
    assert_replays(await first, await repeat)
    assert (await other).json()["id"] == 2


async def test_a_repeat_that_waited_five_seconds_is_in_progress(api: httpx2.AsyncClient) -> None:
    assert WAIT_SECONDS == 5
    service = service_behind(api)
    loop = asyncio.get_running_loop()
    async with writer_held(service):
        first = asyncio.create_task(keyed(api))
        await until_waiting(service, 1)
        began = loop.time()
        answer = await keyed(api)
        assert loop.time() - began >= WAIT_SECONDS
        assert problem(answer) == (409, "idempotency-in-progress")
        assert service._dialect._commit._waiting.qsize() == 1
    assert_replays(await first, await keyed(api))
    assert await number_of_jobs(api) == 1


async def test_a_repeat_of_a_request_that_was_broken_off_is_a_replay(api: httpx2.AsyncClient) -> None:
    service = service_behind(api)
    async with writer_held(service):
        broken_off = asyncio.create_task(keyed(api))
        await until_waiting(service, 1)
        broken_off.cancel()
        await asyncio.wait([broken_off])
        repeat = asyncio.create_task(keyed(api))
        await until_waiting(service, 2)
    answer = await repeat
    assert (answer.status_code, answer.json()["id"], answer.headers[REPLAYED]) == (201, 1, "true")
    assert await number_of_jobs(api) == 1


async def test_the_service_says_that_it_takes_keys(api: httpx2.AsyncClient) -> None:
    assert "idempotency_keys" in (await api.get("/v1")).json()["features"]
