"""One worker's connection: push while there is credit, apply acknowledgements, tell each result once it is durable."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeAlias, assert_never

from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message

from ..backend.contract import Subscription
from ..backend.extensions import Service
from ..domain.errors import BackendError
from ..domain.job import Ack, Job
from ..domain.lifecycle import Acknowledgement
from ..domain.limits import Limits
from ..domain.stream import Drain, Event, Revoke, Stopped, SubscriptionClosed, SubscriptionReplaced
from ..observability.logging import get_logger
from .close_codes import MALFORMED, RESTART, SILENT, TOO_BIG
from .messages import (
    AckMessage,
    ClientMessage,
    CompleteMessage,
    FrameTooLong,
    HeartbeatMessage,
    Refused,
    RequestMessage,
    StopMessage,
    decode_frame,
    encode_drain,
    encode_failure,
    encode_hello,
    encode_job_message,
    encode_result,
    encode_revoke,
    encode_stopped,
    frames,
    to_acknowledgement,
)
from .problems import problem_document
from .request_errors import FenceMissing, MalformedJson, RequestError

REPLACED = 4409
_MAX_WAITING = 10_000
"""Acknowledgements that wait for their commit, and results of stops for the client; beyond, the socket is not read."""
_MAX_COMMITS = 2
"""Commits of acknowledgements under way: while one is written, the next waits for the writer."""
_TAKEN_AT_ONCE = 500
"""Messages of one frame, or frames sent, before others have their turn."""
_SEND_SECONDS = 10.0
"""How long a client may take to read a frame."""

Pending: TypeAlias = tuple[Acknowledgement, str | None]

_log = get_logger()


class SessionClosed(Exception):
    """The server closes the connection with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Disconnected(Exception):
    """The client has gone."""


class Stalled(SessionClosed):
    """The client does not read, not even that it is closed."""

    def __init__(self) -> None:
        super().__init__(SILENT)


class WorkerSession:
    """Serves an accepted socket until one side leaves."""

    def __init__(
        self, socket: WebSocket, service: Service, subscription: Subscription, limits: Limits, *, batch: bool
    ) -> None:
        """Bind a socket to its place in line; with ``batch`` frames are arrays."""
        self._socket = socket
        self._service = service
        self._subscription = subscription
        self._limits = limits
        self._batch = batch
        self._lease_seconds = subscription.hello.lease_seconds
        self._request_id: str = socket.scope["request_id"]
        self._heard_at = asyncio.get_running_loop().time()
        self._sending = asyncio.Lock()
        self._waiting: deque[Pending] = deque()
        self._stops_unanswered = 0
        self._room = asyncio.Event()
        self._room.set()
        self._commits = 0

    def heard(self) -> None:
        """Note a sign of the client's life: it renews its leases."""
        self._heard_at = asyncio.get_running_loop().time()
        self._subscription.alive()

    async def run(self) -> None:
        """Serve until the client leaves. Raises SessionClosed when the server has to close the connection."""
        hello = encode_hello(self._subscription.hello, self._limits, heartbeat_seconds=self._lease_seconds / 3)
        closed: BaseException | None = None
        try:
            await self._send([hello])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._push())
                await self._read(tasks)
        except* SessionClosed as group:
            closed = group.exceptions[0]
        except* Disconnected:
            pass
        finally:
            # What came before the end counts, whatever ended the connection.
            await asyncio.shield(asyncio.create_task(self._acknowledge_the_rest()))
        if closed is not None:
            raise closed

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            text = await self._receive()
            self.heard()
            self._subscription.confirm()
            try:
                messages = decode_frame(text)
            except MalformedJson:
                raise SessionClosed(MALFORMED) from None
            except FrameTooLong:
                raise SessionClosed(TOO_BIG) from None
            failures: list[bytes] = []
            for count, message in enumerate(messages, 1):
                self._take(message, failures)
                if not count % _TAKEN_AT_ONCE:
                    await self._tell(failures)
                    await asyncio.sleep(0)
            await self._tell(failures)
            if self._waiting and self._commits < _MAX_COMMITS:
                self._commits += 1
                tasks.create_task(self._acknowledge())
            while len(self._waiting) + self._stops_unanswered >= _MAX_WAITING:
                self._room.clear()
                await self._room.wait()

    async def _tell(self, failures: list[bytes]) -> None:
        if failures:
            await self._send(failures)
            failures.clear()

    async def _receive(self) -> str:
        """Return the next text frame; close a client that was silent for one lease."""
        while True:
            try:
                async with asyncio.timeout_at(self._heard_at + self._lease_seconds):
                    return _text_of(await self._socket.receive())
            except TimeoutError:
                if asyncio.get_running_loop().time() >= self._heard_at + self._lease_seconds:
                    raise SessionClosed(SILENT) from None

    def _take(self, message: ClientMessage | Refused, failures: list[bytes]) -> None:
        """Act on a message, or append its failed result."""
        match message:
            case CompleteMessage():
                self._take_acknowledgement(message, failures)
            case RequestMessage():
                self._subscription.request(message.n)
            case StopMessage():
                ref = message.ref if isinstance(message.ref, str) else None
                self._subscription.stop(ref)
                self._stops_unanswered += ref is not None
            case HeartbeatMessage():
                pass
            case Refused():
                failures.append(self._failure(message.error, message.ref, message.id))
            case _:
                self._take_acknowledgement(message, failures)

    def _take_acknowledgement(self, message: AckMessage, failures: list[bytes]) -> None:
        ref = message.ref if isinstance(message.ref, str) else None
        try:
            if not isinstance(message.fence, int):
                raise FenceMissing
            self._waiting.append((to_acknowledgement(message), ref))
        except RequestError as error:
            failures.append(self._failure(error, ref, message.id))

    async def _acknowledge(self) -> None:
        """Commit what waits, all that came meanwhile at once, until nothing waits."""
        try:
            while self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                self._room.set()
                results = await self._results(batch)
                if results:
                    await self._send(results)
        finally:
            self._commits -= 1

    async def _acknowledge_the_rest(self) -> None:
        if self._waiting:
            self._commits += 1
            with suppress(Disconnected, SessionClosed):
                await self._acknowledge()

    async def _results(self, batch: Sequence[Pending]) -> list[bytes]:
        outcomes: Sequence[Ack | BackendError]
        try:
            self._subscription.acknowledging()
            outcomes = await self._service.acknowledge([call for call, _ in batch])
        except BackendError as error:
            outcomes = [error] * len(batch)
        results: list[bytes] = []
        for (call, ref), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BackendError):
                results.append(self._failure(outcome, ref, call.job_id))
            elif ref is not None:
                results.append(encode_result(ref, outcome))
        return results

    async def _push(self) -> None:
        """Send what the subscription brings, in its order."""
        while True:
            try:
                events = await self._subscription.next()
            except SubscriptionReplaced:
                raise SessionClosed(REPLACED) from None
            except SubscriptionClosed:
                raise SessionClosed(RESTART) from None
            unwritten = events.copy()
            try:
                await self._send([_encode(event) for event in events], unwritten)
            finally:
                # Whatever ended the sending: what was written may have been started, the rest goes back.
                await self._service.give_back([event for event in unwritten if isinstance(event, Job)])
            self._stops_unanswered -= sum(isinstance(event, Stopped) for event in events)
            self._room.set()

    async def _send(self, messages: Sequence[bytes], unwritten: list[Event] | None = None) -> None:
        """Send messages in order, and take the events whose messages are written from ``unwritten``.

        Raises Disconnected when the client is gone, SessionClosed when it does not read.
        """
        async with self._sending:
            now = asyncio.get_running_loop().time
            try:
                async with asyncio.timeout(_SEND_SECONDS) as limit:
                    moved_at = now()
                    for number, (frame, count) in enumerate(frames(messages, batch=self._batch), 1):
                        await self._socket.send({"type": "websocket.send", "text": frame})
                        if unwritten:
                            del unwritten[:count]
                        if now() > moved_at + 1:
                            # A slow client is none that stalls.
                            moved_at = now()
                            limit.reschedule(moved_at + _SEND_SECONDS)
                        if not number % _TAKEN_AT_ONCE:
                            await asyncio.sleep(0)
            except TimeoutError:
                _log.warning("worker.stalled", session=self._subscription.hello.session)
                raise Stalled from None
            except (OSError, RuntimeError, WebSocketDisconnect):
                raise Disconnected from None

    def _failure(self, error: Exception, ref: str | None, job_id: int | None) -> bytes:
        _, problem = problem_document(error, self._request_id)
        return encode_failure(ref, job_id, problem)


def _text_of(message: Message) -> str:
    """Return the text of a frame; raises Disconnected at the end, SessionClosed for a binary frame."""
    if message["type"] == "websocket.disconnect":
        raise Disconnected
    text: str | None = message.get("text")
    if text is None:
        raise SessionClosed(MALFORMED)
    return text


def _encode(event: Event) -> bytes:
    match event:
        case Job():
            return encode_job_message(event)
        case Revoke():
            return encode_revoke(event)
        case Stopped():
            return encode_stopped(event.reference)
        case Drain():
            return encode_drain()
        case _:
            assert_never(event)
