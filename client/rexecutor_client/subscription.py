"""One connection to the stream of an executor's ready jobs: what comes in, what goes out, and their results."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any, cast
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .errors import RexecutorError, ServiceUnreachable, UnexpectedAnswer, problem_of
from .events import Drain, Event, Hello, Revoke
from .fences import Fences
from .job import Ack, ExecutionError, Job
from .json_text import NotJson
from .stream_messages import (
    HEARTBEAT,
    DrainMessage,
    HelloMessage,
    JobMessage,
    ResultMessage,
    RevokeMessage,
    ServerMessage,
    acknowledgement_text,
    complete_text,
    decode_frame,
    frames_of,
    request_text,
    stop_text,
)
from .transport import headers_of, refusal_of

_MAX_FRAME_BYTES = 2 * 1024 * 1024
_CLOSE_SECONDS = 5.0


class SubscriptionLost(ServiceUnreachable):
    """The connection is gone; the session and its jobs outlive it by a lease, for whoever has the token."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"the stream ended: {reason or 'connection lost'}" + (f" ({code})" if code else ""))
        self.code = code
        """The server's close code, as 1012 when it leaves or 4408 when it heard nothing; None when it said none."""


class Subscription:
    """A place in an executor's line. Reads and writes in tasks of its own, from the hello to :meth:`close`.

    What is sent in one turn of the event loop goes out as one frame. Whoever acknowledges may await the result, which
    comes once it is durable: an Ack, or the service's Problem, or SubscriptionLost, after which the outcome is unknown.
    """

    def __init__(
        self, connection: ClientConnection, hello: Hello, early: Sequence[ServerMessage], *, fences: Fences
    ) -> None:
        """Take over a connection after its hello and what came in the same frame."""
        self.hello = hello
        self._connection = connection
        self._fences = fences
        self._events: list[Event] = []
        self._arrived = asyncio.Event()
        self._outgoing: list[bytes] = []
        self._something_to_send = asyncio.Event()
        self._references = count(1)
        self._results: dict[str, tuple[asyncio.Future[Any], int | None]] = {}
        """For each reference who waits, and the fence that its acknowledgement bears."""
        self._lost: RexecutorError | None = None
        self._question: tuple[str, float] | None = None
        """The reference of something that was sent, and when: its result shows that the service heard it."""
        self.alive_at = asyncio.get_running_loop().time()
        """Since when the service may have heard nothing, by the event loop's clock."""
        for message in early:
            self._take(message)
        self._tasks = [asyncio.create_task(work) for work in (self._read(), self._write(), self._watch())]

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as is known here."""
        return self._lost is None

    @property
    def has_unread(self) -> bool:
        """Whether ``next`` has events already."""
        return bool(self._events)

    async def next(self) -> list[Event]:
        """Wait for events and return all there are, in the server's order. Raises SubscriptionLost after the last."""
        while not self._events:
            if self._lost is not None:
                raise self._lost
            self._arrived.clear()
            await self._arrived.wait()
        events, self._events = self._events, []
        return events

    def request(self, credits: int) -> None:
        """Ask for so many jobs more; 10,000 are open at most."""
        self._send(request_text(credits))

    def stop(self) -> Awaitable[None]:
        """Take all credits back. Once the result is awaited, no job follows but those that ``next`` has already."""
        reference, result = self._expect()
        self._send(stop_text(reference))
        return cast("Awaitable[None]", result)

    def alive(self) -> None:
        """Give a sign of life; the subscription does so by itself as long as the event loop turns."""
        self._send(HEARTBEAT)

    def complete(self, job_id: int, fence: int) -> Awaitable[Ack]:
        """Mark a job as completed."""
        reference, result = self._expect(fence)
        self._send(complete_text(job_id, fence, reference))
        return result

    def retry(
        self, job_id: int, fence: int, next_scheduled_at: datetime | timedelta, error: ExecutionError
    ) -> Awaitable[Ack]:
        """Record the error and run the job again at the given time."""
        return self._acknowledge("retry", job_id, fence, run_at=next_scheduled_at, error=error)

    def discard(self, job_id: int, fence: int, error: ExecutionError) -> Awaitable[Ack]:
        """Record the error and give the job up."""
        return self._acknowledge("discard", job_id, fence, error=error)

    def cancel(self, job_id: int, fence: int, error: ExecutionError) -> Awaitable[Ack]:
        """Record the error and cancel the job."""
        return self._acknowledge("cancel", job_id, fence, error=error)

    def snooze(self, job_id: int, fence: int, next_scheduled_at: datetime | timedelta) -> Awaitable[Ack]:
        """Run the job at the given time instead; the attempt does not count."""
        return self._acknowledge("snooze", job_id, fence, run_at=next_scheduled_at)

    def release(self, job_id: int, fence: int) -> Awaitable[Ack]:
        """Give a job back that was not started."""
        return self._acknowledge("release", job_id, fence)

    async def close(self) -> None:
        """Send what waits, and leave; what is held stays leased. Call ``stop`` before, or a job may come too late."""
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._flush()
        await self._connection.close()
        self._end(SubscriptionLost(None, "closed here"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def abort(self) -> None:
        """End the connection without a word: what is held comes back to others by its lease."""
        self._connection.transport.abort()

    async def __aiter__(self) -> AsyncIterator[Job]:
        """Give jobs one by one, each asked for when it is wanted."""
        while True:
            self.request(1)
            jobs: list[Job] = []
            while not jobs:
                jobs = [event for event in await self.next() if isinstance(event, Job)]
            for job in jobs:
                yield job

    def _acknowledge(
        self,
        kind: str,
        job_id: int,
        fence: int,
        *,
        run_at: datetime | timedelta | None = None,
        error: ExecutionError | None = None,
    ) -> Awaitable[Ack]:
        reference, result = self._expect(fence)
        try:
            self._send(acknowledgement_text(kind, job_id, fence, reference, run_at=run_at, error=error))
        except NotJson:
            self._results.pop(reference, None)
            self._question = None
            raise
        return result

    def _expect(self, fence: int | None = None) -> tuple[str, asyncio.Future[Any]]:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._lost is not None:
            _refuse(result, self._lost)
            return "0", result
        reference = str(next(self._references))
        self._results[reference] = result, fence
        if self._question is None:
            self._question = reference, asyncio.get_running_loop().time()
        return reference, result

    def _send(self, message: bytes) -> None:
        if self._lost is None:
            self._outgoing.append(message)
            self._something_to_send.set()

    # The tasks.

    async def _read(self) -> None:
        try:
            while True:
                for message in decode_frame(await self._connection.recv(decode=False)):
                    self._take(message)
                if self._events:
                    self._arrived.set()
        except ConnectionClosed as closed:
            close = closed.rcvd
            self._end(SubscriptionLost(close.code if close else None, close.reason if close else ""))
        except UnexpectedAnswer as error:
            self._end(error)
            await self._connection.close(1002)
        finally:
            # Whatever ended the reading: nobody may wait for what cannot come.
            self._end(SubscriptionLost(None, ""))

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._something_to_send.wait()
                await self._flush()

    async def _watch(self) -> None:
        """Be heard and hear, or take the connection for lost: half of it may be gone without a word."""
        interval = self.hello.heartbeat_interval
        clock = asyncio.get_running_loop().time
        with suppress(ConnectionClosed):
            while True:
                # Twice as often as it has to, since a lease that no connection renews counts from the last answer.
                await asyncio.sleep(interval / 2)
                asked_at = clock()
                try:
                    # The ping too: to a peer that does not read it would wait for ever.
                    async with asyncio.timeout(interval):
                        await (await self._connection.ping())
                    self.alive_at = max(self.alive_at, asked_at)
                except TimeoutError:
                    self._connection.transport.abort()
                    return

    async def _flush(self) -> None:
        self._something_to_send.clear()
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            for frame in frames_of(outgoing):
                await self._connection.send(frame, text=True)

    def _take(self, message: ServerMessage) -> None:
        match message:
            case ResultMessage():
                self._take_result(message)
            case JobMessage(job):
                self._fences.remember(job.id, job.fence)
                self._events.append(job)
            case RevokeMessage(id, fence, reason):
                self._fences.forget(id, fence)
                self._events.append(Revoke(id, fence, reason))
            case DrainMessage():
                self._events.append(Drain())
            case HelloMessage():
                pass

    def _take_result(self, message: ResultMessage) -> None:
        waiting = self._results.pop(message.ref, None) if message.ref is not None else None
        if self._question is not None and self._question[0] == message.ref:
            self.alive_at = max(self.alive_at, self._question[1])
            self._question = None
        if waiting is None:
            return
        result, fence = waiting
        if message.ok and message.id is not None:
            self._fences.forget(message.id, fence)
        if result.done():
            return
        if not message.ok:
            problem = message.problem or {}
            _refuse(result, problem_of(problem.get("status", 0), problem))
        elif message.id is None or message.status is None:
            result.set_result(None)
        else:
            result.set_result(Ack(message.id, message.status, message.duplicate))

    def _end(self, error: RexecutorError) -> None:
        if self._lost is not None:
            return
        self._lost = error
        results, self._results = self._results, {}
        for result, _ in results.values():
            if not result.done():
                _refuse(result, error)
        self._arrived.set()


def _refuse(result: asyncio.Future[Any], error: BaseException) -> None:
    result.set_exception(error)
    # Whoever does not ask for the result does not want to hear of it.
    result.exception()


async def subscribe(
    url: str,
    executor: str,
    *,
    api_key: str | None = None,
    worker: str | None = None,
    prefetch: int = 0,
    resume: str | None = None,
    timeout: float = 10.0,  # noqa: ASYNC109 - of this call alone, as its callers know it
    fences: Fences | None = None,
) -> Subscription:
    """Open a connection to the stream of an executor and wait for its hello, at most for ``timeout`` seconds.

    Raises the service's Problem when it refuses, ServiceUnreachable when it does not answer.
    """
    address = _address(url, executor, {"worker": worker, "prefetch": prefetch, "batch": "true", "resume": resume})
    try:
        async with asyncio.timeout(timeout):
            connection = await connect(
                address,
                subprotocols=["rexecutor.v1"],  # type: ignore[list-item]  # a NewType of str
                additional_headers=headers_of(api_key),
                user_agent_header=None,
                compression=None,
                open_timeout=None,
                ping_interval=None,
                close_timeout=_CLOSE_SECONDS,
                max_size=_MAX_FRAME_BYTES,
            )
            return await _begun(connection, fences or Fences())
    except InvalidStatus as refused:
        response = refused.response
        raise refusal_of(response.status_code, response.headers, bytes(response.body or b"")) from refused
    except (OSError, WebSocketException, TimeoutError) as error:
        raise ServiceUnreachable(f"no stream from {url}: {str(error) or type(error).__name__}") from error


async def _begun(connection: ClientConnection, fences: Fences) -> Subscription:
    try:
        messages = decode_frame(await connection.recv(decode=False))
        hello = messages[0] if messages else None
        if not isinstance(hello, HelloMessage):
            raise UnexpectedAnswer("the stream did not begin with hello")
    except BaseException:
        with suppress(Exception):
            await connection.close()
        raise
    return Subscription(connection, hello, messages[1:], fences=fences)


def _address(url: str, executor: str, parameters: dict[str, Any]) -> str:
    given = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"ws{url[len('http') :]}/v1/executors/{quote(executor, safe='')}/subscribe?{given}"
