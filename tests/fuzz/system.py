"""What the model is compared with: the service on each database, spoken to over its wire, on clocks that stand still.

All get the same operations, and every answer of one must be that of the other: the machine sees one system.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import httpx2
import time_machine
import uvloop
from fastapi import FastAPI

from app.main import create_app
from tests.postgres import run
from tests.services import in_a_task_of_its_own, new_settings

LEASE_SECONDS = 3_600
"""Longer than any run: the service's own rescuer waits one lease at first, and leaves rescue to the machine."""
GRACE_SECONDS = 2
PAYLOAD_BYTES = 1_024
START = datetime(2030, 1, 1, tzinfo=UTC)

# Before pg_catalog in the search path: whoever asks for the time, asks these.
_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.hand AS SELECT timestamptz '{start}' AS at;
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT at FROM clock.hand';
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT at FROM clock.hand';
"""
_PASS_TIME = "UPDATE clock.hand SET at = at + $1::bigint * interval '1 microsecond'"
_ANY_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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


class OneService:
    """A service in this process."""

    def __init__(self, runner: asyncio.Runner, app: FastAPI) -> None:
        self._runner, self._app = runner, app

    def request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx2.Response:
        return self._runner.run(
            _request(self._app, httpx2.Request(method, f"http://service{path}", json=body, headers=headers))
        )

    def rescue(self) -> int:
        return int(self._runner.run(self._app.state.service.rescue()))


class BothServices:
    """A service on SQLite, whose clock is this process's, and one on PostgreSQL, whose clock is a row there."""

    def __init__(
        self,
        runner: asyncio.Runner,
        sqlite: OneService,
        postgres: OneService,
        clock: time_machine.Traveller,
        connection: asyncpg.Connection,
    ) -> None:
        self._runner, self._sqlite, self._postgres = runner, sqlite, postgres
        self._clock, self._connection = clock, connection

    @property
    def now(self) -> int:
        return time.time_ns() // 1_000

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Send it to both, the answers must be the same; return that of SQLite."""
        answer = self._sqlite.request(method, path, body, headers)
        if path in {"/v1/jobs", "/v1/jobs/bulk"} and answer.is_success:
            self._let_ids_agree(answer.json())
        on_sqlite, on_postgres = told(answer), told(self._postgres.request(method, path, body, headers))
        assert on_postgres == on_sqlite, f"PostgreSQL: {on_postgres}\nSQLite: {on_sqlite}"
        return answer

    def rescue(self) -> int:
        rescued = self._sqlite.rescue()
        assert self._postgres.rescue() == rescued
        return rescued

    def pass_time(self, microseconds: int) -> None:
        self._clock.shift(timedelta(microseconds=microseconds))
        self._runner.run(self._connection.execute(_PASS_TIME, microseconds))

    def _let_ids_agree(self, answer: Any) -> None:
        """Each database leaves gaps of its own where something was rolled back."""
        results = answer.get("results", [answer])
        inserted = [result["id"] for result in results if result["outcome"] == "inserted"]
        if inserted:
            self._runner.run(self._connection.execute("SELECT setval('jobs_id_seq', $1, false)", min(inserted)))


def told(answer: httpx2.Response) -> tuple[int, dict[str, str], str]:
    """All that an answer says, but for what is made anew for each."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "content-length"}}
    # As text: to Python 1, 1.0 and true are equal.
    body = json.dumps(answer.json(), sort_keys=True) if answer.content else ""
    return answer.status_code, headers, _ANY_UUID.sub("a uuid", body)


@contextmanager
def running_system(folder: Path, postgres_url: str, **settings: Any) -> Iterator[System]:
    """A system with an empty database in a folder and another one at a URL, which its clock is set up in."""
    run(postgres_url, f"DO $$ BEGIN {_CLOCK.format(start=START.isoformat())} END $$")
    name = postgres_url.rpartition("/")[2]
    run(postgres_url, f'ALTER DATABASE "{name}" SET search_path = clock, pg_catalog, public')
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        clock = stack.enter_context(time_machine.travel(START, tick=False))

        def running(**database: Any) -> OneService:
            app = create_app(
                new_settings(
                    folder, lease_seconds=LEASE_SECONDS, max_payload_bytes=PAYLOAD_BYTES, **settings, **database
                )
            )
            lifespan = in_a_task_of_its_own(app.router.lifespan_context(app))
            runner.run(lifespan.__aenter__())
            stack.callback(lambda: runner.run(lifespan.__aexit__(None, None, None)))
            return OneService(runner, app)

        connection = runner.run(_connect(postgres_url))
        stack.callback(lambda: runner.run(connection.close()))
        yield BothServices(runner, running(), running(database_url=postgres_url), clock, connection)


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url)


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
