"""What the model is compared with: a service in this process, spoken to over its wire, on a clock that stands still.

Another database needs another way to set its clock, and its own :func:`running_system`; the machine knows neither.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx2
import time_machine
import uvloop
from fastapi import FastAPI

from app.main import create_app
from tests.services import in_a_task_of_its_own, new_settings

LEASE_SECONDS = 3_600
"""Longer than any run: the service's own rescuer waits one lease at first, and leaves rescue to the machine."""
GRACE_SECONDS = 2
PAYLOAD_BYTES = 1_024
START = datetime(2030, 1, 1, tzinfo=UTC)


class System(Protocol):
    """A service whose time only the caller moves."""

    @property
    def now(self) -> int:
        """The time by the database's clock, in microseconds."""

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Send a request; a body is sent as JSON."""

    def rescue(self) -> int:
        """Take back what was lost; return how many jobs."""

    def pass_time(self, microseconds: int) -> None:
        """Let the database's clock go on."""


class LocalSystem:
    """On a database whose clock is this process's."""

    def __init__(self, runner: asyncio.Runner, app: FastAPI, clock: time_machine.Traveller) -> None:
        self._runner, self._app, self._clock = runner, app, clock

    @property
    def now(self) -> int:
        return time.time_ns() // 1_000

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return self._runner.run(
            _request(self._app, httpx2.Request(method, f"http://service{path}", json=body, headers=headers))
        )

    def rescue(self) -> int:
        return int(self._runner.run(self._app.state.service.rescue()))

    def pass_time(self, microseconds: int) -> None:
        self._clock.shift(timedelta(microseconds=microseconds))


@contextmanager
def running_system(folder: Path, **settings: Any) -> Iterator[System]:
    """A system with an empty database in a folder."""
    app = create_app(new_settings(folder, lease_seconds=LEASE_SECONDS, max_payload_bytes=PAYLOAD_BYTES, **settings))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, time_machine.travel(START, tick=False) as clock:
        lifespan = in_a_task_of_its_own(app.router.lifespan_context(app))
        runner.run(lifespan.__aenter__())
        try:
            yield LocalSystem(runner, app, clock)
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


async def _request(app: FastAPI, request: httpx2.Request) -> httpx2.Response:
    """Call the application itself: httpx2's own transport takes as long for a request as the service does."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("service", 80),
    }
    received = False
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal received
        if received:
            await asyncio.Event().wait()
        received = True
        return {"type": "http.request", "body": request.content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    body = b"".join(message.get("body", b"") for message in bodies)
    return httpx2.Response(start["status"], headers=start["headers"], content=body, request=request)
