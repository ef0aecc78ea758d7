"""A worker over the stream that behaves as badly as a real one may, and writes down all it sees."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any
from uuid import uuid4

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

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
    instant,
    now,
)

FAILURE = {"error_type": "chaos", "message": "it did not work"}
OPERATIONS = ["complete"] * 16 + ["retry", "retry", "snooze", "release", "discard", "cancel"]
_FINISH_SECONDS = 3
_UNREACHABLE = (OSError, WebSocketException, TimeoutError, EOFError)
"""EOFError: a handshake that was cut off."""


class Style(Struct, frozen=True):
    """How a worker asks for jobs."""

    capacity: int
    prefetches: bool
    batch: bool
    longest_life_seconds: float
    """Of a connection; then it is dropped without a word."""


class StreamWorker:
    """One place in line, over as many connections as it takes."""

    def __init__(self, url: str, executor: str, style: Style, recorder: Recorder, dice: Random) -> None:
        """Work on an executor's jobs at a WebSocket URL."""
        self._url = f"{url}/v1/executors/{executor}/subscribe"
        self._executor = executor
        self._style = style
        self._recorder = recorder
        self._dice = dice
        self._leaving = asyncio.Event()
        self._session: str | None = None
        self._token: str | None = None
        self._name = ""
        self._socket: ClientConnection | None = None
        self._online = asyncio.Event()
        self._work: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[bool]] = {}
        self._stopped = asyncio.Event()
        self._stop_asked_at = 0

    def leave(self) -> None:
        """Ask it to finish what it has and go."""
        self._leaving.set()

    async def run(self) -> None:
        """Connect again and again until asked to leave."""
        while not self._leaving.is_set():
            try:
                await self._serve_one_connection()
            except InvalidStatus as refused:
                # A server that cannot serve now says so, and when to come again.
                if refused.response.status_code != 503 or "Retry-After" not in refused.response.headers:
                    raise
            except _UNREACHABLE:
                pass
            self._offline()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), self._dice.uniform(0.0, 0.2))
        for task in self._work.values():
            task.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)

    def _offline(self) -> None:
        self._socket = None
        self._online.clear()
        for answer in self._answers.values():
            answer.cancel()
        self._answers.clear()

    async def _serve_one_connection(self) -> None:
        prefetch = self._style.capacity if self._style.prefetches else 0
        query = f"?prefetch={prefetch}&batch={str(self._style.batch).lower()}"
        query += f"&resume={self._token}" if self._token else ""
        asked_at, name = now(), uuid4().hex[:12]
        options: dict[str, Any] = {"proxy": None, "open_timeout": 3, "close_timeout": 1, "ping_interval": None}
        async with connect(self._url + query, **options) as socket:
            async with asyncio.timeout(3):
                hello, *more = _messages(await socket.recv())
            self._greet(hello, name, asked_at)
            self._socket, self._name = socket, name
            for message in more:
                self._take(message, name)
            self._online.set()
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(each)
                    for each in (self._show_life(socket, name, hello["lease"]), self._go_on(socket, name, hello))
                ]
                with suppress(ConnectionClosed):
                    await self._read(socket, name)
                for task in background:
                    task.cancel()

    def _greet(self, hello: dict[str, Any], name: str, asked_at: int) -> None:
        held = [(each["id"], each["fence"]) for each in hello["held"]]
        self._recorder.write(
            Connected(
                at=now(),
                asked_at=asked_at,
                connection=name,
                executor=self._executor,
                session=hello["session"],
                resumed=hello["resumed"],
                resumes=self._session if self._token else None,
                held=held,
                credits=hello["credits"],
                returns=self._style.prefetches,
                lease=int(hello["lease"] * 1_000_000),
            )
        )
        self._session, self._token = hello["session"], hello["resume"]
        for key in [key for key in self._work if key not in held]:
            self._work.pop(key).cancel()

    async def _go_on(self, socket: ClientConnection, name: str, hello: dict[str, Any]) -> None:
        """Give back what never arrived, ask for jobs, now and then stop for a moment; leave when asked to, or drop."""
        for each in hello["held"]:
            key = each["id"], each["fence"]
            if key not in self._work:
                self._begin(*key, self._give_back(*key))
        with suppress(ConnectionClosed):
            if not self._style.prefetches:
                await self._request(socket, name, max(0, self._style.capacity - len(self._work)))
            life = self._dice.uniform(0.2, self._style.longest_life_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), life / 2)
            if not self._leaving.is_set() and self._dice.random() < 0.3:
                await self._stop(socket)
                await self._request(socket, name, max(0, self._style.capacity - len(self._work)))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), life / 2)
            if self._leaving.is_set():
                await self._finish(socket)
            else:
                self._drop(socket)

    async def _finish(self, socket: ClientConnection) -> None:
        await self._stop(socket)
        if self._work:
            await asyncio.wait(self._work.values(), timeout=_FINISH_SECONDS)
        await socket.close()

    def _drop(self, socket: ClientConnection) -> None:
        """Cut the connection; sometimes forget the session too, as a crash would."""
        if self._dice.random() < 0.3:
            self._token = self._session = None
            for task in self._work.values():
                task.cancel()
            self._work.clear()
        socket.transport.abort()

    async def _stop(self, socket: ClientConnection) -> None:
        self._stopped.clear()
        self._stop_asked_at = now()
        await socket.send('{"type":"stop","ref":"stop"}')
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), 3)

    async def _request(self, socket: ClientConnection, name: str, credits: int) -> None:
        self._recorder.write(Requested(at=now(), connection=name, credits=credits))
        await socket.send(json.dumps({"type": "request", "n": credits}))

    async def _show_life(self, socket: ClientConnection, name: str, lease: float) -> None:
        """Ping, and note what the server is known to have heard; cut a connection that answers nothing."""
        with suppress(ConnectionClosed):
            while True:
                sent_at = now()
                try:
                    async with asyncio.timeout(2 * lease):
                        await (await socket.ping())
                except TimeoutError:
                    socket.transport.abort()
                    return
                self._recorder.write(Alive(at=now(), connection=name, sent_at=sent_at))
                await asyncio.sleep(lease / 5)

    async def _read(self, socket: ClientConnection, name: str) -> None:
        async for frame in socket:
            for message in _messages(frame):
                self._take(message, name)

    def _take(self, message: dict[str, Any], name: str) -> None:
        match message["type"]:
            case "job":
                self._take_job(message["job"], name)
            case "revoke":
                key = message["id"], message["fence"]
                reason = message["reason"]
                self._recorder.write(Revoked(at=now(), connection=name, job_id=key[0], fence=key[1], reason=reason))
                if key in self._work:
                    self._work.pop(key).cancel()
                self._ask_for_one_more()
            case "result" if message.get("ref") == "stop":
                self._recorder.write(Stopped(at=now(), connection=name, asked_at=self._stop_asked_at))
                self._stopped.set()
            case "result":
                self._take_result(message)

    def _take_job(self, job: dict[str, Any], name: str) -> None:
        self._recorder.write(
            Delivered(
                at=now(),
                connection=name,
                job_id=job["id"],
                fence=job["fence"],
                version=job["version"],
                scheduled_at=instant(job["scheduled_at"]),
                attempted_at=instant(job["attempted_at"]),
                lease_expires_at=instant(job["lease_expires_at"]),
            )
        )
        self._begin(job["id"], job["fence"], self._work_on(job["id"], job["fence"]))

    def _take_result(self, message: dict[str, Any]) -> None:
        reference = message.get("ref", "")
        status = 200 if message["ok"] else message["problem"]["status"]
        if message["ok"]:
            outcome = Outcome.DUPLICATE if message["duplicate"] else Outcome.ACCEPTED
        else:
            outcome = Outcome.REFUSED if status < 500 else Outcome.UNKNOWN
        self._recorder.write(Answered(at=now(), call=reference, outcome=outcome, status=status))
        answer = self._answers.pop(reference, None)
        if answer is not None and not answer.done():
            answer.set_result(status < 500)

    def _begin(self, job_id: int, fence: int, work: Any) -> None:
        key = job_id, fence
        task = asyncio.create_task(work)
        self._work[key] = task
        task.add_done_callback(lambda _: self._work.pop(key, None))

    async def _work_on(self, job_id: int, fence: int) -> None:
        """Take some time, then say how it went; sometimes twice, sometimes something else as well."""
        await asyncio.sleep(self._dice.choice([0, 0, 0.01, 0.05, 0.05, 0.2, 1.5]))
        operation = self._dice.choice(OPERATIONS)
        await self._tell(operation, job_id, fence)
        if self._dice.random() < 0.05:
            await self._tell(operation, job_id, fence)
        if self._dice.random() < 0.05:
            await self._tell(self._dice.choice(OPERATIONS), job_id, fence)
        self._ask_for_one_more()

    async def _give_back(self, job_id: int, fence: int) -> None:
        await self._tell("release", job_id, fence)
        self._ask_for_one_more()

    def _ask_for_one_more(self) -> None:
        socket = self._socket
        if self._style.prefetches or socket is None or self._leaving.is_set():
            return
        asking = asyncio.create_task(self._request(socket, self._name, 1))
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _tell(self, operation: str, job_id: int, fence: int) -> None:
        """Acknowledge; where no answer came, again under the same fence, on whichever connection there is."""
        for _ in range(5):
            await self._online.wait()
            socket = self._socket
            assert socket is not None
            reference = uuid4().hex
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._answers[reference] = answer
            delay = self._dice.choice([0, 0.05, 0.3])
            waits = operation in {"retry", "snooze"}
            message: dict[str, Any] = {"type": operation, "id": job_id, "fence": fence, "ref": reference}
            message |= {"delay": delay} if waits else {}
            message |= {"error": FAILURE} if operation in {"retry", "discard", "cancel"} else {}
            at = now()
            self._recorder.write(
                Called(
                    at=at,
                    call=reference,
                    operation=operation,
                    job_id=job_id,
                    fence=fence,
                    connection=self._name,
                    not_before=at + int(delay * 1_000_000) if waits else None,
                )
            )
            try:
                await socket.send(json.dumps(message))
                if await answer:
                    return
            except ConnectionClosed:
                self._answers.pop(reference, None)
                await socket.wait_closed()
                await asyncio.sleep(0.05)  # the connection's reader notices, and goes on to the next
            except asyncio.CancelledError:
                if not answer.cancelled():
                    raise  # it is this task that is not wanted any more


def _messages(frame: str | bytes) -> Iterator[dict[str, Any]]:
    content = json.loads(frame)
    yield from content if isinstance(content, list) else [content]
