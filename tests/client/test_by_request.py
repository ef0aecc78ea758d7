"""What a worker says by request: leases, claims and results, to a service that answers as it is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import pytest

from rexecutor_client import (
    Ack,
    AsyncClient,
    Done,
    ExecutionError,
    Job,
    JobStatus,
    Snooze,
    errors,
    executor,
    pauses,
    polling,
)
from rexecutor_client.leases import Leases
from rexecutor_client.polling import Polling
from rexecutor_client.running import RunningJobs
from rexecutor_client.settlement import Settlement, settlement_of, without_words
from rexecutor_client.settling import Settling
from tests.client.handed_out import handed_out

PATIENCE_SECONDS = 10

pytestmark = pytest.mark.timeout(60)


class Service:
    """Stands for the client of a service: ``answer`` says what comes of each call, by its name."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answer: Callable[[str], Any] = lambda _: None

    def __getattr__(self, name: str) -> Any:
        async def call(*_: Any, **__: Any) -> Any:
            self.calls.append(name)
            answer = self.answer(name)
            if isinstance(answer, Exception):
                raise answer
            return await answer if asyncio.isfuture(answer) else answer

        return call


class Worker:
    """The parts of a worker that speak by request."""

    def __init__(self, service: Service) -> None:
        client = cast(AsyncClient, service)
        self.settling = Settling(client)
        self.settling.goes_by_request()
        self.go_on = asyncio.Event()
        self.jobs = RunningJobs(executor("mail")(self._send), self.settling, freed=lambda: None)
        self.leases = Leases(client, self.jobs)
        self.polling = Polling(client, "mail", "w", self.jobs, self.leases)

    async def _send(self, _: Job) -> None:
        await self.go_on.wait()

    def start(self, *, lease_seconds: float, job_id: int = 1) -> None:
        self.jobs.start(handed_out(id=job_id), lease_seconds=lease_seconds)
        self.leases.keep()


@pytest.fixture
def service() -> Service:
    return Service()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def worker(service: Service) -> AsyncIterator[Worker]:
    worker = Worker(service)
    yield worker
    await worker.jobs.end()
    await worker.leases.close()


# Leases.


@pytest.mark.parametrize("answer", [errors.UnexpectedAnswer("a page"), errors.ServiceUnreachable("away")])
async def test_renewal_that_fails_is_tried_again_now_and_then_until_the_lease_has_run_out(service, worker, answer):
    service.answer = lambda _: answer
    worker.start(lease_seconds=1.5)
    await until(lambda: worker.jobs.revoked == 1)
    assert 3 <= service.calls.count("renew_lease") <= 20


async def test_one_asks_for_all_while_the_service_is_away(service, worker):
    service.answer = lambda _: errors.ServiceUnreachable("away")
    for n in range(20):
        worker.start(job_id=n, lease_seconds=6)
    await asyncio.sleep(3)
    assert 20 < service.calls.count("renew_lease") <= 60
    service.answer = lambda _: None
    await until(lambda: worker.leases.is_heard)
    asked = service.calls.count("renew_lease")
    await until(lambda: service.calls.count("renew_lease") >= asked + 19)


async def test_lease_that_has_run_out_is_not_renewed(service, worker):
    worker.start(lease_seconds=0.3)
    time.sleep(0.4)  # as in a process that was stopped
    await until(lambda: worker.jobs.revoked == 1)
    assert service.calls == []


async def test_renewal_for_a_job_of_which_a_result_is_on_its_way_is_refused_once(service, worker):
    """The job is not revoked: the answer to its result tells what became of it."""
    taken = asyncio.get_running_loop().create_future()
    service.answer = lambda name: taken if name == "mark_job_complete" else errors.StaleFence(409, {})
    worker.go_on.set()
    worker.start(lease_seconds=0.6)
    await asyncio.sleep(0.9)
    assert service.calls.count("renew_lease") == 1
    taken.set_result(Ack(1, JobStatus.COMPLETE, False))
    await until(lambda: worker.jobs.done == 1)
    assert worker.jobs.revoked == 0


async def test_renewed_lease_lasts(service, worker, monkeypatch):
    worker.leases.seconds = 0.6
    worker.start(lease_seconds=0.6)
    await asyncio.sleep(1.5)
    assert worker.jobs.executing == 1
    assert 4 <= service.calls.count("renew_lease") <= 12


# Claims.


async def test_stop_waits_for_the_claim_that_is_out_and_gives_back_what_it_brings(service, worker):
    claimed = asyncio.get_running_loop().create_future()
    service.answer = lambda name: claimed if name == "claim_jobs" else None
    claiming = asyncio.create_task(worker.polling.claim(lambda: 5, seconds=60))
    await until(lambda: worker.polling.asked == 5)
    stopping = asyncio.create_task(worker.polling.stop())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    claimed.set_result([handed_out(id=1), handed_out(id=2)])
    await stopping
    await worker.jobs.until_idle()
    assert service.calls == ["claim_jobs", "release_job", "release_job"]
    claiming.cancel()


async def test_claims_that_have_no_answer_are_told(service, worker):
    service.answer = lambda _: errors.ServiceUnreachable("away")
    claiming = asyncio.create_task(worker.polling.claim(lambda: 5, seconds=60))
    await until(lambda: not worker.polling.is_heard)
    service.answer = lambda _: []
    await until(lambda: worker.polling.is_heard)
    claiming.cancel()


# Results.


@pytest.mark.parametrize("kind", ["retry", "discard", "cancel"])
async def test_words_that_something_between_does_not_like_are_left_out(service, worker, monkeypatch, caplog, kind):
    """A firewall may take a traceback for an attack; the service never sees it. Nothing else of it changes."""
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 0.01)
    service.answer = lambda _: errors.UnexpectedAnswer("blocked") if len(service.calls) < 4 else None
    said = Settlement(kind, 1, 1, timedelta(hours=3), ExecutionError("ValueError", "'; DROP TABLE jobs; --"))
    taken = await worker.settling.say(said)
    assert taken == without_words(said)
    assert (taken.kind, taken.run_at, taken.error.error_type) == (kind, timedelta(hours=3), "ValueError")
    assert "DROP TABLE" in caplog.text


@pytest.mark.parametrize("result", [Done(), Snooze(timedelta(hours=1))])
async def test_result_without_words_waits_for_the_service_behind_whatever_answers(service, worker, monkeypatch, result):
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 0.01)
    service.answer = lambda _: errors.UnexpectedAnswer("a page") if len(service.calls) < 6 else None
    said = settlement_of(handed_out(), result)
    assert await worker.settling.say(said) == said


async def test_job_that_makes_a_result_of_its_end_is_not_said_when_nobody_hears_it(service):
    worker = Worker(service)

    async def send(_: Job) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    worker.jobs = RunningJobs(executor("mail")(send), worker.settling, freed=lambda: None)
    worker.jobs.start(handed_out())
    await asyncio.sleep(0.01)
    await worker.jobs.end()
    assert (service.calls, worker.jobs.executing) == ([], 0)


async def test_claims_wait_as_long_as_the_service_asks(service, worker):
    service.answer = lambda _: errors.TooManyRequests(429, {}, retry_after=1.0)
    await worker.polling.claim(lambda: 5, seconds=1.5)
    assert len(service.calls) == 2


async def test_stop_does_not_wait_for_a_claim_without_end(service, worker, monkeypatch):
    monkeypatch.setattr(polling, "_WAIT", timedelta(0))
    service.answer = lambda _: asyncio.get_running_loop().create_future()
    claiming = asyncio.create_task(worker.polling.claim(lambda: 5, seconds=60))
    await until(lambda: worker.polling.asked == 5)
    await asyncio.wait_for(worker.polling.stop(), 2)
    await until(lambda: worker.polling.asked == 0)
    claiming.cancel()
