"""Producers that repeat under the same key while the server is killed: each request is served once."""

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest

from tests.end_to_end.server import Server, http_client
from tests.end_to_end.test_kill import status_of_all

ANSWERS_BETWEEN = 100
BULK = 3


class Producer:
    """Sends one request after the other, each under a key of its own, until it is answered."""

    def __init__(self, http: httpx2.AsyncClient, name: str, path: str) -> None:
        self._http = http
        self._name = name
        self._path = path
        self.answers: dict[str, httpx2.Response] = {}
        self.repeated: set[str] = set()
        self.is_done = False

    async def run(self) -> None:
        while not self.is_done:
            key = f"{self._name}-{len(self.answers)}"
            self.answers[key] = await self._until_answered(key)

    async def send(self, key: str) -> httpx2.Response:
        job = {"executor": "mail", "data": key}
        body: Any = {"jobs": [job] * BULK} if self._path.endswith("/bulk") else job
        return await self._http.post(self._path, json=body, headers={"Idempotency-Key": key})

    async def _until_answered(self, key: str) -> httpx2.Response:
        while True:
            try:
                answer = await self.send(key)
            except httpx2.TransportError:
                self.repeated.add(key)
                await asyncio.sleep(0.1)  # the server is down for a while
                continue
            assert answer.status_code in {200, 201}, answer.text
            return answer


def ids_in(answer: httpx2.Response) -> list[int]:
    document = answer.json()
    return [each["id"] for each in document.get("results", [document])]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.chaos)])
async def test_repeats_over_kills_enqueue_once(tmp_path, kills):
    server = Server(tmp_path)
    await asyncio.to_thread(server.start)
    async with http_client(server.url) as http, asyncio.TaskGroup() as tasks:
        try:
            producers = [Producer(http, f"one{number}", "/v1/jobs") for number in range(6)]
            producers += [Producer(http, f"bulk{number}", "/v1/jobs/bulk") for number in range(2)]
            producing = [tasks.create_task(producer.run()) for producer in producers]
            for _ in range(kills):
                await until_answered(producers, ANSWERS_BETWEEN)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            for producer in producers:
                producer.is_done = True
            await asyncio.wait(producing)
            given = Counter(
                job_id for producer in producers for answer in producer.answers.values() for job_id in ids_in(answer)
            )
            assert set(given.values()) == {1}
            assert (await status_of_all(server)).keys() == given.keys()
            assert sum(len(producer.repeated) for producer in producers) >= kills
            await assert_all_are_replayed(producers)
        finally:
            assert await asyncio.to_thread(server.stop) == 0


async def until_answered(producers: list[Producer], count: int) -> None:
    """Wait until so many more requests have their answers."""
    wanted = sum(len(producer.answers) for producer in producers) + count
    while sum(len(producer.answers) for producer in producers) < wanted:
        await asyncio.sleep(0.01)  # the load itself


async def assert_all_are_replayed(producers: list[Producer]) -> None:
    """Every answer, also of a server killed since, is given again as it was."""
    for producer in producers:
        for key in [*list(producer.answers)[:20], *producer.repeated]:
            answer, repeat = producer.answers[key], await producer.send(key)
            assert repeat.headers["Idempotency-Replayed"] == "true"
            assert (repeat.status_code, repeat.content) == (answer.status_code, answer.content)
            assert repeat.headers.get("location") == answer.headers.get("location")
