"""Poolers that give each transaction another connection: one of ours, which always does, and pgbouncer.

Ours speaks enough of PostgreSQL's protocol to see where a transaction ends. What a client leaves behind on a connection
(a setting, a statement with a name, a LISTEN, a lock of the session) is somebody else's from then on.
"""

import asyncio
import os
import pwd
import shutil
import struct
import subprocess
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Thread

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.cluster import PATIENCE_SECONDS, free_port, run

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_TAKEN = {"user", "database", "client_encoding", "datestyle", "timezone", "standard_conforming_strings"}
"""What pgbouncer takes from a client's startup; all else it refuses."""
_TAKEN |= {"application_name"}
_TOO_MANY = "pooled connections would be without number"
_MAX_IDLE = 50

Startup = tuple[tuple[str, str], ...]


class TransactionPooler:
    """Listens on a port of its own; each transaction of a client runs on another connection than the one before."""

    def __init__(self, target: int, *, strict: bool = True) -> None:
        """Lead to the PostgreSQL on a port. ``strict`` refuses startup parameters as pgbouncer does."""
        self.port = 0
        self.switches = 0
        """How often a client went on at another connection."""
        self._target = target
        self._strict = strict
        self._idle: defaultdict[Startup, deque[_Backend]] = defaultdict(deque)
        self._clients: dict[int, _Client] = {}
        self._keys = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, until: asyncio.Event) -> None:
        """Serve until told to end, then close all."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**24)
        self.port = server.sockets[0].getsockname()[1]
        await until.wait()
        server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._writers):
            with suppress(OSError):
                await writer.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._welcome(reader, writer)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack("!i", await reader.readexactly(4))
            body = await reader.readexactly(size - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code not in {_SSL, _GSS}:
                break
            writer.write(b"N")
        if code == _CANCEL:
            await self._cancel(body)
            return
        words = body[4:].rstrip(b"\0").decode().split("\0")
        given = dict(zip(words[::2], words[1::2], strict=True))
        refused = sorted(name for name in given if name.lower() not in _TAKEN)
        if refused and self._strict:
            writer.write(_error("08P01", f"unsupported startup parameter: {refused[0]}"))
            return
        # All clients of a user and a database share connections.
        startup = tuple((name, given[name]) for name in ("user", "database") if name in given)
        client = _Client(self, startup, reader, writer, next(self._keys))
        self._clients[client.key] = client
        try:
            await client.run()
        finally:
            del self._clients[client.key]
            client.leave()

    async def take(self, startup: Startup, before: "_Backend | None") -> "_Backend":
        """Return a connection that is idle and not the one from before; a new one, if there is none."""
        idle = self._idle[startup]
        for _ in range(len(idle)):
            backend = idle.popleft()
            if backend.is_lost:
                continue
            if backend is not before:
                self.switches += before is not None
                return backend
            idle.append(backend)
        assert len(idle) < _MAX_IDLE, _TOO_MANY
        self.switches += before is not None
        backend = await _Backend.open(self._target, startup)
        self._writers.add(backend.writer)
        self._tasks.update({backend.pump} if backend.pump else ())
        return backend

    def give_back(self, backend: "_Backend", startup: Startup) -> None:
        """Let others have a connection whose transaction has ended."""
        self._idle[startup].append(backend)

    async def _cancel(self, body: bytes) -> None:
        """Cancel what a client's connection does at this moment."""
        client = self._clients.get(struct.unpack("!ii", body[4:12])[0])
        if client is not None and client.backend is not None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
            writer.write(struct.pack("!ii", 16, _CANCEL) + client.backend.key)
            await reader.read()
            writer.close()


class _Backend:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.pump: asyncio.Task[None] | None = None
        self.greeting = b""
        self.key = b""
        self.client: _Client | None = None
        self.is_lost = False

    @classmethod
    async def open(cls, target: int, startup: Startup) -> "_Backend":
        """Connect, and read all up to where it is ready."""
        backend = cls(*await asyncio.open_connection("127.0.0.1", target, limit=2**24))
        words = "".join(f"{name}\0{value}\0" for name, value in startup)
        body = struct.pack("!i", 196608) + words.encode() + b"\0"
        backend.send(struct.pack("!i", len(body) + 4) + body)
        while True:
            kind, message = await _read(backend._reader)
            if kind == b"R" and message[5:9] != b"\0\0\0\0":
                pytest.skip("the server asks for a password, which this pooler has none of")
            if kind == b"E":
                backend.is_lost = True
                backend.greeting = message
                return backend
            if kind == b"K":
                backend.key = message[5:]
            elif kind == b"Z":
                break
            else:
                backend.greeting += message
        backend.pump = asyncio.create_task(backend._forward())
        return backend

    def send(self, message: bytes) -> None:
        self.writer.write(message)

    def close(self) -> None:
        """End a connection whose client left in the middle of a transaction."""
        self.is_lost = True
        self.writer.close()

    async def _forward(self) -> None:
        """Pass what the server says to the client that is served, if there is one."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, message = await _read(self._reader)
                if self.client is not None:
                    self.client.hear(kind, message)
        self.is_lost = True
        self.writer.close()
        if self.client is not None:
            self.client.lose()


class _Client:
    """One client's connection, served by one of the server's at a time."""

    def __init__(
        self,
        pooler: TransactionPooler,
        startup: Startup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: int,
    ) -> None:
        self.key = key
        self.backend: _Backend | None = None
        self._pooler = pooler
        self._startup = startup
        self._reader = reader
        self._writer = writer
        self._before: _Backend | None = None
        self._unanswered = 0
        """How often the server has yet to say that it is ready."""

    async def run(self) -> None:
        """Greet, then serve one transaction after the other."""
        first = await self._pooler.take(self._startup, None)
        self._writer.write(first.greeting)
        if first.is_lost:
            return
        self._writer.write(b"K" + struct.pack("!iii", 12, self.key, 0) + _READY)
        self._pooler.give_back(first, self._startup)
        self._before = first
        while True:
            kind, message = await _read(self._reader)
            if kind == b"X":
                return
            if self.backend is None:
                self.backend = await self._pooler.take(self._startup, self._before)
                self.backend.client = self
            self._unanswered += kind in {b"Q", b"S", b"F"}
            self.backend.send(message)

    def hear(self, kind: bytes, message: bytes) -> None:
        """Pass on; where a transaction ends, give the connection back."""
        self._writer.write(message)
        if kind == b"Z":
            self._unanswered -= 1
            if message[5:6] == b"I" and not self._unanswered and self.backend is not None:
                backend, self.backend = self.backend, None
                backend.client = None
                self._before = backend
                self._pooler.give_back(backend, self._startup)

    def lose(self) -> None:
        """Lose the connection to the server."""
        self.backend = None
        self._writer.close()

    def leave(self) -> None:
        """Leave; what was left open is undone."""
        if self.backend is not None:
            self.backend.client = None
            self.backend.close()


_READY = b"Z" + struct.pack("!i", 5) + b"I"


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a message's kind, and the whole of it."""
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


def _error(code: str, text: str) -> bytes:
    body = f"SFATAL\0VFATAL\0C{code}\0M{text}\0\0".encode()
    return b"E" + struct.pack("!i", len(body) + 4) + body


@contextmanager
def running_pooler(server_url: str, *, strict: bool = True) -> Iterator[tuple[TransactionPooler, int]]:
    """Our pooler before a server, in a thread; and its port."""
    port = make_url(server_url).port
    assert port is not None
    pooler = TransactionPooler(port, strict=strict)
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(pooler.serve(end))

    thread = Thread(target=serve)
    thread.start()
    try:
        _wait_for(lambda: pooler.port > 0)
        yield pooler, pooler.port
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE_SECONDS)


@contextmanager
def running_pgbouncer(server_url: str) -> Iterator[int]:
    """The port of a pgbouncer in transaction mode before a server; skips where there is none."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    url = make_url(server_url)
    folder = Path(tempfile.mkdtemp(prefix="rexecutor-pgbouncer-"))
    port = free_port()
    password = "" if url.password is None else f" password={url.password}"
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={url.host} port={url.port} user={url.username}{password}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 30\n"
    )
    # It refuses to run as root.
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user, -1)
    try:
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([program, settings], stderr=log, user=user, cwd=folder)
        try:
            pooled = pooled_url(server_url, port)
            _wait_for(lambda: process.poll() is not None or _answers(pooled))
            assert process.poll() is None, (folder / "log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder)


def pooled_url(url: str, port: int) -> str:
    """The URL of the same database, through a pooler."""
    return make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)


def _answers(url: str) -> bool:
    try:
        run(url, "SELECT 1")
    except (OSError, asyncpg.PostgresError):
        return False
    return True


def _wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # neither a thread nor a process says when it is ready
