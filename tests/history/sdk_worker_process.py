"""A process of the Python client's worker: `python -m tests.history.sdk_worker_process`, as its sibling is started.

All that its subscriptions send and read is written down; its connections are dropped now and then without a word.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar
from uuid import uuid4

from websockets.asyncio.client import ClientConnection

from rexecutor_client import (
    Ack,
    Cancel,
    Discard,
    ExecutionError,
    Executor,
    Job,
    Retry,
    Snooze,
    Worker,
    executor,
    line,
    subscription,
)
from rexecutor_client.backoff import Constant
from rexecutor_client.events import Hello
from rexecutor_client.fences import Fences
from rexecutor_client.results import Result
from rexecutor_client.stream_messages import JobMessage, ResultMessage, RevokeMessage, ServerMessage
from tests.history.lines import (
    Alive,
    Answered,
    Called,
    Connected,
    Delivered,
    Outcome,
    Recorder,
    Requested,
    Revoked,
    Stopped,
    now,
)
from tests.history.worker_process import Arguments, read_arguments

Asking = tuple[int, str, str | None]
"""When a connection was asked for, the executor, and the token that was given."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DRAIN_SECONDS = 5.0
_asking: ContextVar[Asking] = ContextVar("asking")


class RecordedSubscription(subscription.Subscription):
    """Writes down what passes, before anybody else hears of it."""

    recorder: Recorder
    dice: Random
    longest_life_seconds: float
    sessions: ClassVar[dict[str, str]] = {}
    """The session of each resume token."""

    def __init__(
        self, connection: ClientConnection, hello: Hello, early: Sequence[ServerMessage], *, fences: Fences
    ) -> None:
        asked_at, name, token = _asking.get()
        self._name = uuid4().hex[:12]
        self._calls: dict[str, Called] = {}
        self.sessions[hello.resume] = hello.session
        self.recorder.write(
            Connected(
                at=now(),
                asked_at=asked_at,
                connection=self._name,
                executor=name,
                session=hello.session,
                resumed=hello.resumed,
                resumes=None if token is None else self.sessions[token],
                held=[(held.id, held.fence) for held in hello.held],
                credits=hello.credits,
                # It asks for each job by a request.
                returns=False,
                lease=int(hello.lease * 1_000_000),
            )
        )
        super().__init__(connection, hello, early, fences=fences)
        life = self.dice.uniform(0.2, self.longest_life_seconds)
        asyncio.get_running_loop().call_later(life, connection.transport.abort)

    def request(self, credits: int) -> None:
        self.recorder.write(Requested(at=now(), connection=self._name, credits=credits))
        super().request(credits)

    def stop(self) -> Awaitable[None]:
        asked_at = now()
        stopped = asyncio.ensure_future(super().stop())

        def write(stopped: "asyncio.Future[None]") -> None:
            if not stopped.cancelled() and stopped.exception() is None:
                self.recorder.write(Stopped(at=now(), connection=self._name, asked_at=asked_at))

        stopped.add_done_callback(write)
        return stopped

    def complete(self, job_id: int, fence: int) -> Awaitable[Ack]:
        called = self._called("complete", job_id, fence, None)
        return self._sent(called, super().complete(job_id, fence))

    def _acknowledge(
        self,
        kind: str,
        job_id: int,
        fence: int,
        *,
        run_at: datetime | timedelta | None = None,
        error: ExecutionError | None = None,
    ) -> Awaitable[Ack]:
        called = self._called(kind, job_id, fence, run_at)
        return self._sent(called, super()._acknowledge(kind, job_id, fence, run_at=run_at, error=error))

    def _called(self, operation: str, job_id: int, fence: int, run_at: datetime | timedelta | None) -> Called:
        at = now()
        not_before = at + _microseconds(run_at) if isinstance(run_at, timedelta) else run_at and _instant(run_at)
        called = Called(
            at=at,
            call=uuid4().hex,
            operation=operation,
            job_id=job_id,
            fence=fence,
            connection=self._name,
            not_before=not_before,
        )
        self.recorder.write(called)
        return called

    def _sent(self, called: Called, result: Awaitable[Ack]) -> Awaitable[Ack]:
        if self.is_open:
            self._calls[next(reversed(self._results))] = called
        return result

    def _take(self, message: ServerMessage) -> None:
        match message:
            case JobMessage(job):
                self._write_delivery(job)
            case RevokeMessage(job_id, fence, reason):
                self.recorder.write(Revoked(at=now(), connection=self._name, job_id=job_id, fence=fence, reason=reason))
            case ResultMessage():
                self._write_answer(message)
        super()._take(message)

    def _write_delivery(self, job: Job) -> None:
        assert job.attempted_at is not None
        assert job.lease_expires_at is not None
        self.recorder.write(
            Delivered(
                at=now(),
                connection=self._name,
                job_id=job.id,
                fence=job.fence,
                version=job.version,
                scheduled_at=_instant(job.scheduled_at),
                attempted_at=_instant(job.attempted_at),
                lease_expires_at=_instant(job.lease_expires_at),
            )
        )

    def _write_answer(self, message: ResultMessage) -> None:
        called = self._calls.pop(message.ref or "", None)
        if called is None:
            return
        status = 200 if message.ok else int((message.problem or {})["status"])
        if message.ok:
            outcome = Outcome.DUPLICATE if message.duplicate else Outcome.ACCEPTED
        else:
            outcome = Outcome.REFUSED if status < 500 else Outcome.UNKNOWN
        self.recorder.write(Answered(at=now(), call=called.call, outcome=outcome, status=status))
        # The server heard the frame that is answered.
        self.recorder.write(Alive(at=now(), connection=self._name, sent_at=called.at))


class Work:
    """What the functions do: take some time, and end in every way there is; never twice at once for one job."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._running: set[int] = set()

    async def in_the_loop(self, job: Job) -> Result | None:
        if job.id in self._running:
            print(f"Traceback: job {job.id} runs twice at once", file=sys.stderr, flush=True)
        self._running.add(job.id)
        try:
            await asyncio.sleep(self._pause())
            return self._result()
        finally:
            self._running.discard(job.id)

    def in_a_thread(self, _: Job) -> Result | None:
        time.sleep(self._pause())
        return self._result()

    def _pause(self) -> float:
        return self._dice.choice([0, 0, 0.01, 0.05, 0.05, 0.2, 1.5])

    def _result(self) -> Result | None:
        result = self._dice.choice(
            [
                *[None] * 14,
                Retry(timedelta(seconds=self._dice.choice([0, 0.05, 0.3]))),
                Snooze(timedelta(seconds=0.1)),
                Snooze(datetime.now(UTC) + timedelta(seconds=0.2)),
                Cancel("not wanted"),
                Discard("of no use"),
                "fails",
            ]
        )
        if result == "fails":
            raise RuntimeError("it did not work")
        return result


async def recorded_subscribe(url: str, name: str, **options: Any) -> subscription.Subscription:
    """Subscribe as the client does, and remember since when."""
    _asking.set((now(), name, options.get("resume")))
    return await subscription.subscribe(url, name, **options)


async def work(given: Arguments) -> None:
    """Serve the executors with one worker until SIGTERM."""
    dice = Random(given.seed)
    RecordedSubscription.recorder = Recorder(given.history)
    RecordedSubscription.dice = dice
    RecordedSubscription.longest_life_seconds = given.longest_life_seconds
    subscription.Subscription = RecordedSubscription  # type: ignore[misc]  # every one is to be heard
    line.subscribe = recorded_subscribe
    functions = Work(dice)
    executors: list[Executor[Any, Any]] = [
        executor(name, backoff=Constant(base=timedelta(seconds=0.05)))(
            functions.in_a_thread if number % 2 else functions.in_the_loop
        )
        for number, name in enumerate(given.executors)
    ]
    url = given.url.replace("ws", "http", 1)
    worker = Worker(executors, url=url, concurrency=dice.choice([8, 20, 40]), drain_seconds=_DRAIN_SECONDS)
    print("working", flush=True)
    await worker.run(handle_signals=True)


def _instant(moment: datetime) -> int:
    return _microseconds(moment - _EPOCH)


def _microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(work(read_arguments()))
