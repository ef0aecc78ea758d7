"""A worker's process: one connection that completes every job it gets, and waits for the result of each.

It says ``ready`` once the stream has begun, and ends when it has the results of as many jobs as it was told.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from . import payload
from .child import run
from .socket_client import SocketConnection, connect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Order(Struct, frozen=True, kw_only=True):
    """How to work."""

    port: int
    jobs: int
    credits: int = 1_000
    batch: bool = True
    record: bool = False
    """Whether to note when each job arrives."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it."""

    jobs: int
    seconds: float
    """From the request to upgrade to the last result."""
    numbers: list[int] = []
    """The job numbers in the order of arrival, and for each:"""
    arrived_at: list[int] = []
    """nanoseconds of the monotonic clock;"""
    late_microseconds: list[float] = []
    """the arrival minus ``scheduled_at``, by the machine's clock."""


class Offer(Struct):
    """What of a job is needed to complete it."""

    id: int
    fence: int


class Numbered(Struct):
    """The data of a job."""

    n: int | str


class RecordedOffer(Offer):
    """What of a job is needed to tell when it came."""

    scheduled_at: datetime
    data: Numbered


class Hello(Struct, tag="hello", tag_field="type"):
    """The stream has begun."""


class Job(Struct, tag="job", tag_field="type"):
    """A job came."""

    job: Offer


class RecordedJob(Struct, tag="job", tag_field="type"):
    """A job came."""

    job: RecordedOffer


class Result(Struct, tag="result", tag_field="type"):
    """An acknowledgement is durable, or failed."""

    ok: bool
    id: int = 0


_lean = msgspec.json.Decoder(Hello | Job | Result | list[Hello | Job | Result])
_recording = msgspec.json.Decoder(Hello | RecordedJob | Result | list[Hello | RecordedJob | Result])


class Worker:
    """Completes jobs until it has the results of all."""

    def __init__(self, order: Order) -> None:
        """Begin with nothing."""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection: SocketConnection
        self._order = order
        self._decode = (_recording if order.record else _lean).decode
        self._completed: set[int] = set()
        self._offers: list[RecordedOffer] = []
        self._monotonic_ns: list[int] = []
        self._clock_ns: list[int] = []
        self._began_at = time.perf_counter()

    def received(self, text: bytes) -> None:
        """Act on a frame."""
        monotonic_ns, clock_ns = time.monotonic_ns(), time.time_ns()
        decoded = self._decode(text)
        answers: list[bytes] = []
        for message in decoded if isinstance(decoded, list) else [decoded]:
            if isinstance(message, Result):
                self._take_result(message)
            elif isinstance(message, Hello):
                print("ready", flush=True)
            else:
                answers.append(
                    b'{"type":"complete","id":%d,"fence":%d,"ref":"%d"}'
                    % (message.job.id, message.job.fence, message.job.id)
                )
                if isinstance(message, RecordedJob):
                    self._offers.append(message.job)
                    self._monotonic_ns.append(monotonic_ns)
                    self._clock_ns.append(clock_ns)
        if answers:
            self.connection.send(b"[" + b",".join(answers) + b"]" if self._order.batch else answers[0])

    def failed(self, error: Exception) -> None:
        """End with an error."""
        if not self.finished.done():
            self.finished.set_exception(error)

    def outcome(self) -> Outcome:
        """Return what came of it; the seconds end here."""
        seconds = time.perf_counter() - self._began_at
        late = [
            clock_ns / 1_000 - (offer.scheduled_at - _EPOCH) // _MICROSECOND
            for offer, clock_ns in zip(self._offers, self._clock_ns, strict=True)
        ]
        return Outcome(
            jobs=len(self._completed),
            seconds=seconds,
            numbers=[int(offer.data.n) for offer in self._offers],
            arrived_at=self._monotonic_ns,
            late_microseconds=late,
        )

    def _take_result(self, result: Result) -> None:
        if not result.ok or result.id in self._completed:
            self.failed(RuntimeError(f"job {result.id}: not completed, or twice"))
            return
        self._completed.add(result.id)
        if len(self._completed) == self._order.jobs and not self.finished.done():
            self.finished.set_result(None)


async def work(order: Order) -> Outcome:
    """Follow an order."""
    worker = Worker(order)
    target = (
        f"/v1/executors/{payload.EXECUTOR}/subscribe"
        f"?worker=bench&prefetch={order.credits}&batch={str(order.batch).lower()}"
    )
    worker.connection = await connect(order.port, target, worker.received, worker.failed)
    await worker.finished
    outcome = worker.outcome()
    worker.connection.close()
    return outcome


if __name__ == "__main__":
    run(Order, work)
