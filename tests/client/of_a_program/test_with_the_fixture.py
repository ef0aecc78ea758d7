"""What a test of a program finds in the fixture ``rexecutor``; run by a pytest that knows nothing of this project."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from rexecutor_client import AsyncClient, Cancel, Constant, Discard, EnqueuableJob, Job, Snooze, Worker, executor
from rexecutor_client.testing import Drained, ExecutionFailed, ServiceForTests

pytestmark = pytest.mark.timeout(60)

HOUR = timedelta(hours=1)
ran: list[Any] = []


class Email(msgspec.Struct):
    to: str
    subject: str = ""


@executor("email", tags=["mail"])
async def email(job: Job[Email]) -> None:
    ran.append(job.data.to)


@executor("broken", max_attempts=3, backoff=Constant(base=HOUR, jitter=0))
async def broken(job: Job) -> None:
    ran.append(job.attempt)
    raise ValueError("no such thing")


@executor("odd")
async def odd(job: Job) -> Any:
    return {"snooze": Snooze(HOUR), "cancel": Cancel("unwanted"), "discard": Discard("useless")}[job.data]


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


class TestAssertEnqueued:
    def test_finds_a_job_by_all_that_is_given(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(email.job(Email("ada@example.org", "hi"), delay=HOUR, priority=3, max_attempts=7))
        (job,) = rexecutor.assert_enqueued(
            email,
            data={"to": "ada@example.org"},
            metadata=None,
            tags=["mail"],
            priority=3,
            max_attempts=7,
            delay=HOUR,
            count=1,
        )
        assert job.data == {"to": "ada@example.org", "subject": "hi"}
        rexecutor.assert_enqueued("email", data=Email("ada@example.org", "hi"))
        rexecutor.assert_enqueued(scheduled_at=datetime.now(UTC) + HOUR)

    @pytest.mark.parametrize(
        "other",
        [
            {"executor": "sms"},
            {"data": {"to": "bob@example.org"}},
            {"data": {"cc": None}},
            {"data": None},
            {"metadata": {"a": 1}},
            {"tags": ["mail", "urgent"]},
            {"priority": 1},
            {"max_attempts": 6},
            {"scheduled_at": datetime.now(UTC) + HOUR},
            {"count": 2},
        ],
        ids=str,
    )
    def test_fails_for_a_job_that_is_otherwise_and_tells_how(self, rexecutor: ServiceForTests, other):
        rexecutor.client.enqueue(email.job(Email("ada@example.org")))
        with pytest.raises(AssertionError) as failure:
            rexecutor.assert_enqueued(**other)
        assert "ada@example.org" in str(failure.value)
        if "count" not in other:
            assert "other" in str(failure.value)
            rexecutor.refute_enqueued(**other)

    def test_true_is_not_one(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(EnqueuableJob(executor="flags", data={"on": 1}))
        rexecutor.refute_enqueued("flags", data={"on": True})
        rexecutor.assert_enqueued("flags", data={"on": 1})

    def test_job_that_runs_or_has_ended_is_not_enqueued(self, rexecutor: ServiceForTests):
        enqueued = rexecutor.client.enqueue(email.job(Email("ada@example.org")))
        rexecutor.client.claim_jobs("email")
        rexecutor.refute_enqueued(email)
        rexecutor.client.mark_job_complete(enqueued.id)
        rexecutor.refute_enqueued(email)

    def test_refutation_tells_the_job_that_is_there(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(email.job(Email("ada@example.org")))
        with pytest.raises(AssertionError, match="ada@example"):
            rexecutor.refute_enqueued(email)


class TestDrain:
    async def test_runs_what_is_due_and_no_more(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue_many([email.job(Email(name)) for name in "abc"])
        rexecutor.client.enqueue(email.job(Email("later"), delay=HOUR))
        assert await rexecutor.drain(email) == Drained(done=3)
        assert ran == ["a", "b", "c"]
        rexecutor.assert_enqueued(email, data={"to": "later"}, count=1)

    async def test_runs_what_is_to_come_too_if_asked(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(email.job(Email("later"), delay=30 * 24 * HOUR))
        began_at = rexecutor.clock.now()
        assert await rexecutor.drain(email, with_scheduled=True) == Drained(done=1)
        assert rexecutor.clock.now() - began_at >= 30 * 24 * HOUR

    async def test_failures_are_recorded_and_tried_again_until_the_last(self, rexecutor: ServiceForTests):
        enqueued = rexecutor.client.enqueue(broken.job())
        assert await rexecutor.drain(broken) == Drained(retried=1)
        rexecutor.assert_enqueued(broken, delay=HOUR)
        assert await rexecutor.drain(broken, with_scheduled=True) == Drained(retried=1, discarded=1)
        assert ran == [1, 2, 3]
        job = rexecutor.client.get_job(enqueued.id)
        assert (job.status, job.error_count) == ("discarded", 3)
        assert "no such thing" in job.errors[-1].details

    async def test_failure_is_raised_if_asked(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(broken.job())
        with pytest.raises(ExecutionFailed, match="no such thing"):
            await rexecutor.drain(broken, raises=True)

    async def test_counts_each_way_to_end(self, rexecutor: ServiceForTests):
        for way in ("snooze", "cancel", "discard"):
            rexecutor.client.enqueue(odd.job(way))
        assert await rexecutor.drain(odd) == Drained(snoozed=1, cancelled=1, discarded=1)

    async def test_job_that_comes_back_for_ever_is_told(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(odd.job("snooze"))
        with pytest.raises(AssertionError, match="for ever"):
            await rexecutor.drain(odd, with_scheduled=True, most=5)

    async def test_runs_what_a_job_enqueues(self, rexecutor: ServiceForTests):
        @executor("parent")
        async def parent(job: Job) -> None:
            async with AsyncClient(rexecutor.url) as client:
                await client.enqueue(email.job(Email(f"child of {job.id}")))

        enqueued = rexecutor.client.enqueue(parent.job())
        assert await rexecutor.drain(parent, email) == Drained(done=2)
        assert ran == [f"child of {enqueued.id}"]


class TestClock:
    async def test_moved_clock_wakes_a_worker_that_waits(self, rexecutor: ServiceForTests):
        rexecutor.client.enqueue(email.job(Email("later"), delay=HOUR))
        worker = Worker([email], url=rexecutor.url)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(10):
            while not worker.status.is_healthy:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert ran == []
            rexecutor.clock.move(HOUR)
            while not ran:
                await asyncio.sleep(0.01)
        worker.stop()
        await running

    def test_clock_never_moves_back(self, rexecutor: ServiceForTests):
        with pytest.raises(ValueError, match="back"):
            rexecutor.clock.move(timedelta(seconds=-1))


def test_each_test_has_a_database_of_its_own(rexecutor: ServiceForTests):
    assert rexecutor.enqueued() == []
    assert rexecutor.client.list_executors() == []
