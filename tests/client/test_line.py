"""A worker's connection: refused, closed and lost in every way there is, and what becomes of the jobs meanwhile."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from rexecutor_client import Cancel, Job, Problem, Snooze, Worker, executor, running
from rexecutor_client.errors import Forbidden, Unauthorized, ValidationError
from rexecutor_client.settlement import Settlement
from tests.client.stand_in import PATIENCE_SECONDS, Refusal, StandIn, Stream

pytestmark = pytest.mark.timeout(60)


class Mail:
    """What the function waits for, and what it saw."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.revoked: list[str | None] = []
        self.executor = executor("mail")(self._send)

    async def _send(self, job: Job) -> None:
        self.began.set()
        try:
            await self.go_on.wait()
        finally:
            self.revoked.append(job.revoked)


@pytest.fixture
async def service() -> AsyncIterator[StandIn]:
    async with StandIn().running() as service:
        yield service


@pytest.fixture
async def mail() -> Mail:
    return Mail()


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    works = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(works, PATIENCE_SECONDS)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


# Refused, and closed.


@pytest.mark.parametrize(
    ("status", "slug", "problem"),
    [(401, "unauthorized", Unauthorized), (403, "forbidden", Forbidden), (422, "validation-error", ValidationError)],
)
async def test_refusal_for_good_ends_the_worker_with_the_problem(service, mail, status, slug, problem):
    service.refusals.append(Refusal(status, slug))
    with pytest.raises(problem) as raised:
        await asyncio.wait_for(Worker([mail.executor], url=service.url).run(), PATIENCE_SECONDS)
    assert isinstance(raised.value, Problem)
    assert len(service.asked_at) == 1


async def test_refusal_for_one_executor_lets_the_jobs_of_others_end(service, mail, caplog):
    @executor("secret")
    async def secret(_: Job) -> None:
        """Never called."""

    worker = Worker([mail.executor, secret], url=service.url)
    works = asyncio.create_task(worker.run())
    streams = {each.executor: each for each in (await service.connection(), await service.connection())}
    stream = streams["mail"]
    await stream.hello()
    await stream.send_job()
    await mail.began.wait()
    service.refused["secret"] = Refusal(403, "forbidden")
    streams["secret"].abort()
    await stream.next("stop")
    mail.go_on.set()
    await stream.accept(await stream.next("complete"))
    with pytest.raises(Forbidden):
        await asyncio.wait_for(works, PATIENCE_SECONDS)
    assert worker.status.done == 1
    assert "secret: the service refuses this worker: forbidden" in caplog.text


async def test_error_that_nobody_thought_of_ends_the_worker_in_order(service, mail, monkeypatch):
    @executor("secret")
    async def secret(_: Job) -> None:
        """Never called."""

    worker = Worker([mail.executor, secret], url=service.url)
    works = asyncio.create_task(worker.run())
    streams = {each.executor: each for each in (await service.connection(), await service.connection())}
    for stream in streams.values():
        await stream.hello()
    await streams["mail"].send_job()
    await mail.began.wait()
    monkeypatch.setattr(worker._lines[1]._jobs, "revoke", lambda *_: 1 / 0)
    await streams["secret"].send(type="revoke", id=1, fence=1, reason="lost")
    await streams["mail"].next("stop")
    mail.go_on.set()
    await streams["mail"].accept(await streams["mail"].next("complete"))
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(works, PATIENCE_SECONDS)
    assert worker.status.done == 1


async def test_worker_that_is_cancelled_takes_its_credits_back(service, mail):
    works = asyncio.create_task(Worker([mail.executor], url=service.url).run())
    stream = await service.begun()
    assert (await stream.next())["type"] == "request"
    works.cancel()
    assert (await stream.next())["type"] == "stop"
    with pytest.raises(asyncio.CancelledError):
        await works


@pytest.mark.parametrize(("status", "slug"), [(429, "too-many-requests"), (503, "not-ready")])
async def test_refusal_for_now_is_tried_again_when_the_service_says(service, mail, status, slug):
    service.refusals.append(Refusal(status, slug, retry_after="1"))
    async with working(Worker([mail.executor], url=service.url)):
        await service.begun()
        first, second = service.asked_at
        assert second - first >= 1


async def test_service_that_is_away_is_asked_ever_less_often(service, mail):
    service.refusals.extend([Refusal(503, "not-ready")] * 4)
    async with working(Worker([mail.executor], url=service.url)):
        await service.begun()
        pauses = [after - before for before, after in zip(service.asked_at, service.asked_at[1:], strict=False)]
        assert pauses[3] > 2 * pauses[0]
        assert pauses[0] > 0.05


@pytest.mark.parametrize("code", [1011, 1012, 1013, 4400, 4408, 4409])
async def test_worker_comes_back_with_its_token_and_its_job_after_every_close(service, mail, code):
    worker = Worker([mail.executor], url=service.url, concurrency=3)
    async with working(worker):
        first = await service.begun()
        assert (await first.next())["n"] == 3
        await first.send_job()
        await mail.began.wait()
        await first.close(code)
        second = await service.begun(held=[(1, 1)])
        assert second.query["resume"] == "token"
        assert (await second.next())["n"] == 2
        mail.go_on.set()
        complete = await second.next("complete")
        assert (complete["type"], complete["id"], complete["fence"]) == ("complete", 1, 1)
        await second.accept(complete)
    assert mail.revoked == [None]


async def test_worker_that_was_silent_for_a_lease_asks_whether_a_function_blocks(service, mail, caplog):
    async with working(Worker([mail.executor], url=service.url)):
        await (await service.begun()).close(4408)
        await service.begun()
    assert "does a coroutine function block?" in caplog.text


async def test_key_that_is_withdrawn_ends_the_worker(service, mail):
    works = asyncio.create_task(Worker([mail.executor], url=service.url).run())
    stream = await service.begun()
    service.refusals.append(Refusal(401, "unauthorized"))
    await stream.close(4401)
    with pytest.raises(Unauthorized):
        await asyncio.wait_for(works, PATIENCE_SECONDS)


# What the session still holds.


async def test_job_that_the_session_holds_no_more_is_stopped(service, mail):
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        first = await service.begun()
        await first.send_job()
        await mail.began.wait()
        first.abort()
        await service.begun(held=[])
        await until(lambda: mail.revoked == ["lost"])
        assert worker.status.executors[0].revoked == 1
        assert worker.status.running == 0


async def test_jobs_are_stopped_when_the_service_is_away_for_a_lease(service, mail):
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        first = await service.begun(lease=1)
        await first.send_job()
        await mail.began.wait()
        service.refused["mail"] = Refusal(503, "not-ready")
        first.abort()
        await asyncio.sleep(0.5)
        assert mail.revoked == []
        await until(lambda: mail.revoked == ["lost"])
        del service.refused["mail"]
        await service.begun(held=[])


async def test_lease_counts_from_when_the_service_heard_last(service, mail):
    """It may be cut off for long before that is noticed, and hand the job to another meanwhile."""
    clock = asyncio.get_running_loop().time
    async with working(Worker([mail.executor], url=service.url)):
        first = await service.begun(lease=3)
        await first.send_job()
        await mail.began.wait()
        first.stand_still()
        stood_still_at = clock()
        service.refused["mail"] = Refusal(503, "not-ready")
        await until(lambda: mail.revoked == ["lost"])
        assert 1.9 < clock() - stood_still_at < 4.1
        del service.refused["mail"]
        await service.begun(held=[])


async def test_result_shows_that_the_service_hears(service, mail):
    mail.go_on.set()
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        stream = await service.begun()
        await until(lambda: worker.status.is_healthy)
        subscription = worker._lines[0]._subscription
        assert subscription is not None
        began_at = subscription.alive_at
        await stream.send_job()
        await stream.accept(await stream.next("complete"))
        await until(lambda: subscription.alive_at > began_at)


@pytest.mark.parametrize("frame", [b"[]", b'{"type":"drain"}', b"no json"])
async def test_connection_that_does_not_begin_with_hello_is_tried_again(service, mail, frame):
    async with working(Worker([mail.executor], url=service.url)):
        await (await service.connection()).send_text(frame)
        await service.begun()


async def test_job_that_never_came_is_released(service, mail):
    async with working(Worker([mail.executor], url=service.url)):
        (await service.begun()).abort()
        second = await service.begun(held=[(7, 3)])
        release = await second.next("release")
        assert (release["type"], release["id"], release["fence"]) == ("release", 7, 3)
        await second.accept(release, "scheduled")


@pytest.mark.parametrize("held", [[(1, 1)], []], ids=["not taken", "taken"])
async def test_result_that_was_lost_with_the_connection_is_sent_again_under_its_fence(service, mail, held):
    worker = Worker([mail.executor], url=service.url)
    mail.go_on.set()
    async with working(worker):
        first = await service.begun()
        await first.send_job()
        sent = await first.next("complete")
        first.abort()
        second = await service.begun(held=held)
        again = await second.next("complete")
        assert (again["type"], again["id"], again["fence"]) == (sent["type"], sent["id"], sent["fence"])
        await second.accept(again)
        await until(lambda: worker.status.done == 1)


# Acknowledgements that are refused.


async def test_stale_acknowledgement_is_logged_and_the_job_let_go(service, mail, caplog):
    mail.go_on.set()
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        stream = await service.begun()
        await stream.send_job()
        await stream.refuse(await stream.next("complete"), 409, "stale-fence")
        await until(lambda: len(worker._lines[0]._jobs) == 0)
        assert "complete came too late" in caplog.text
        assert (worker.status.done, worker.status.executors[0].revoked) == (0, 1)


async def test_job_that_crosses_the_end_of_a_cancelled_worker_is_released(service, mail):
    worker = Worker([mail.executor], url=service.url)
    works = asyncio.create_task(worker.run())
    stream = await service.begun()
    await stream.next("request")
    stream.before_stopped = partial(stream.send_job, 7, fence=3)
    works.cancel()
    release = await stream.next("release")
    assert (release["id"], release["fence"]) == (7, 3)
    done, _ = await asyncio.wait([works], timeout=PATIENCE_SECONDS)
    assert done


@pytest.mark.parametrize("comes_again", [False, True])
async def test_completion_counts_though_the_job_is_revoked_or_comes_again_before_its_result(service, mail, comes_again):
    mail.go_on.set()
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        stream = await service.begun()
        await stream.send_job()
        first = await stream.next("complete")
        if comes_again:
            await stream.send_job(fence=2)
            await stream.accept(await stream.next("complete"))
        else:
            await stream.send(type="revoke", id=1, fence=1, reason="lost")
        await stream.accept(first)
        await until(lambda: worker.status.done == 1 + comes_again)
        assert worker.status.executors[0].revoked == 0


@pytest.mark.parametrize(
    ("status", "slug"),
    [(422, "validation-error"), (415, "unsupported-media-type"), (404, "not-found"), (400, "of-a-later-service")],
)
async def test_acknowledgement_that_cannot_be_taken_becomes_one_that_can(service, caplog, status, slug):
    @executor("mail")
    async def cancel(_: Job) -> Cancel:
        return Cancel("no more")

    worker = Worker([cancel], url=service.url)
    async with working(worker):
        stream = await service.begun()
        await stream.send_job()
        await stream.refuse(await stream.next("cancel"), status, slug)
        discard = await stream.next("discard")
        assert discard["error"]["error_type"] == "refused"
        await stream.refuse(discard, status, slug)
        await stream.refuse(await stream.next("release"), status, slug)
        await until(lambda: len(worker._lines[0]._jobs) == 0)
    assert [record.levelno for record in caplog.records if "does not take" in record.message] == [logging.ERROR] * 3


class Moment(datetime):
    """As libraries derive it."""


class Span(timedelta):
    """As libraries derive it."""


@pytest.mark.parametrize("until", [Moment(2040, 1, 1, tzinfo=UTC), Span(hours=1)], ids=["moment", "span"])
async def test_snooze_until_a_time_of_a_derived_class_is_said(service, until):
    @executor("mail")
    async def snooze(_: Job) -> Snooze:
        return Snooze(until)

    async with working(Worker([snooze], url=service.url)):
        stream = await service.begun()
        await stream.send_job()
        said = await stream.next("snooze")
        assert said.get("next_scheduled_at", "2040-01-01T00:00:00Z") == "2040-01-01T00:00:00Z"
        assert said.get("delay", "PT3600S") == "PT3600S"
        await stream.accept(said, "scheduled")


async def test_acknowledgement_that_has_no_json_becomes_one_that_has(service, mail, monkeypatch, caplog):
    """No result is known that comes to that; one would hold its job for ever."""
    monkeypatch.setattr(running, "settlement_of", lambda job, _: Settlement("snooze", job.id, job.fence, object()))
    mail.go_on.set()
    async with working(Worker([mail.executor], url=service.url)):
        stream = await service.begun()
        await stream.send_job()
        retry = await stream.next("retry")
        assert "cannot be sent as JSON" in retry["error"]["message"]
        await stream.accept(retry, "retryable")


async def test_job_of_which_nothing_can_be_said_is_given_back(service, mail, monkeypatch, caplog):
    monkeypatch.setattr(running, "settlement_of", lambda *_: 1 / 0)
    mail.go_on.set()
    async with working(Worker([mail.executor], url=service.url)):
        stream = await service.begun()
        await stream.send_job()
        await stream.accept(await stream.next("release"), "scheduled")
    assert "ZeroDivisionError" in caplog.text


async def test_acknowledgement_that_the_service_cannot_take_now_is_sent_again(service, mail):
    mail.go_on.set()
    async with working(Worker([mail.executor], url=service.url)):
        stream = await service.begun()
        await stream.send_job()
        await stream.refuse(await stream.next("complete"), 503, "database-unavailable")
        again = await stream.next("complete")
        await stream.accept(again)


# Leaving.


async def test_worker_is_elsewhere_while_a_server_that_leaves_hears_its_results(service, mail):
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        first = await service.begun()
        await first.send_job()
        await mail.began.wait()
        await first.send(type="drain")
        second = await service.connection()
        assert second.query["resume"] == "token"
        mail.go_on.set()
        complete = await first.next("complete")
        await first.accept(complete)
        await second.hello()
        await until(lambda: worker.status.is_healthy)


async def test_job_that_comes_after_the_stop_is_released(service, mail):
    worker = Worker([mail.executor], url=service.url)
    works = asyncio.create_task(worker.run())
    stream = await service.begun()
    await until(lambda: worker.status.is_healthy)
    worker.stop()
    await stream.send_job()
    await stream.next("stop")
    await stream.accept(await stream.next("release"), "scheduled")
    await asyncio.wait_for(works, PATIENCE_SECONDS)
    assert mail.revoked == []


async def test_job_that_does_not_end_in_time_is_stopped_and_tried_again_at_once(service, mail):
    worker = Worker([mail.executor], url=service.url, drain_seconds=0.1)
    works = asyncio.create_task(worker.run())
    stream = await service.begun()
    await stream.send_job()
    await mail.began.wait()
    worker.stop()
    retry = await stream.next("retry")
    assert (retry["error"]["error_type"], retry["delay"]) == ("cancelled", "P0D")
    await stream.accept(retry, "retryable")
    await asyncio.wait_for(works, PATIENCE_SECONDS)
    assert mail.revoked == ["stopped"]


class Cleaning:
    """A function that takes its time to clean up."""

    def __init__(self) -> None:
        self.is_over = False

    async def send(self, _: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)
            self.is_over = True


async def stopped(service: StandIn, function: Callable[[Job], Awaitable[None]]) -> tuple[Stream, "asyncio.Task[None]"]:
    """Stop a worker whose only job does not end in time."""
    worker = Worker([executor("mail")(function)], url=service.url, drain_seconds=0.1)
    works = asyncio.create_task(worker.run())
    stream = await service.begun()
    await stream.send_job()
    await until(lambda: worker.status.running == 1)
    worker.stop()
    return stream, works


async def test_job_that_is_stopped_cleans_up_before_it_is_tried_again(service):
    cleaning = Cleaning()
    stream, works = await stopped(service, cleaning.send)
    retry = await stream.next("retry")
    assert cleaning.is_over
    await stream.accept(retry, "retryable")
    await asyncio.wait_for(works, PATIENCE_SECONDS)


async def test_job_that_comes_to_its_end_when_it_is_stopped_is_complete(service):
    async def send(_: Job) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    stream, works = await stopped(service, send)
    said = await stream.next("retry", "complete")
    assert said["type"] == "complete"
    await stream.accept(said)
    await asyncio.wait_for(works, PATIENCE_SECONDS)


async def test_result_is_sent_again_while_the_worker_stops(service):
    async def send(_: Job) -> None:
        await asyncio.Event().wait()

    stream, works = await stopped(service, send)
    await stream.refuse(await stream.next("retry"), 503, "database-unavailable")
    await stream.accept(await stream.next("retry"), "retryable")
    await asyncio.wait_for(works, PATIENCE_SECONDS)


async def test_function_that_cannot_be_cancelled_does_not_keep_the_worker(service):
    has_ended = False

    async def send(_: Job) -> None:
        while not has_ended:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)

    stream, works = await stopped(service, send)
    await stream.accept(await stream.next("retry"), "retryable")
    await asyncio.wait_for(works, PATIENCE_SECONDS)
    has_ended = True


async def test_clean_up_of_a_revoked_job_is_waited_for(service):
    cleaning = Cleaning()
    worker = Worker([executor("mail")(cleaning.send)], url=service.url)
    async with working(worker):
        stream = await service.begun()
        await stream.send_job()
        await until(lambda: worker.status.running == 1)
        await stream.send(type="revoke", id=1, fence=1, reason="cancelled")
        await until(lambda: worker.status.running == 0)
    assert cleaning.is_over


async def test_nothing_is_left_of_a_connection_that_drained(service, mail):
    before = asyncio.all_tasks()
    worker = Worker([mail.executor], url=service.url)
    async with working(worker):
        first = await service.begun()
        await first.send(type="drain")
        await service.begun()
        await until(lambda: worker.status.is_healthy)
    own = {task for task in asyncio.all_tasks() - before if "rexecutor_client" in repr(task)}
    assert not own
