"""`rexecutor serve` and `rexecutor migrate`: from settings to a listening socket, each failure in one clear line."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ..backend.extensions import Service
from ..domain.limits import MAX_FRAME_BYTES
from ..main import app_for, migrate_database, open_service
from ..observability.logging import configure_logging, get_logger
from ..observability.meter import Meter
from ..settings import Settings, unknown_variables
from ..store.database import UnusableUrl, describe_url
from ..store.dialects.base import DatabaseUnusable
from .request_protocol import REFUSED_CONNECTIONS, Bounds, bounded_protocol
from .socket_protocol import bounded_socket_protocol

_BACKLOG = 2_048
_KEEP_ALIVE_SECONDS = 75
_CLOSING_SECONDS = 2.5
"""At most so much of the drain's time is kept for closing: a stalled client never takes more."""
_LEAST_LEAVING_SECONDS = 5.0
"""Closing needs some time; so short drains are not cut off on time."""
_SECOND_SIGNAL_SECONDS = 1.0
_LAST_WORDS_SECONDS = 0.1
_COLLECT_AFTER = 50_000, 20, 50
_USER_TIMEOUT_MILLISECONDS = 30_000
_OTHER_FILES = 64
"""The database, logs and what the event loop needs, beside the connections."""


class _Refused(Exception):
    """The command cannot run; the message is for people."""


def serve(*, migrate: bool | None = None, strict_settings: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""

    def run() -> None:
        settings = read_settings()
        unknown = unknown_variables(os.environ)
        if unknown and strict_settings:
            raise _Refused("settings: " + "; ".join(_complaint(*each) for each in sorted(unknown.items())))
        if migrate is not None:
            settings = settings.model_copy(update={"migrate": migrate})
        _configure_logging(settings)
        for name, nearest in sorted(unknown.items()):
            get_logger().warning("setting.unknown", variable=name, nearest=nearest)
        with _listen(settings) as listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listening))

    return failing_in_one_line(run)


def migrate(revision: str) -> int:
    """Bring the schema to a revision; return the exit status."""

    def run() -> None:
        settings = read_settings()
        _configure_logging(settings)
        migrate_database(settings, revision)
        print(f"{describe_url(settings.database_url)} is at {revision}")

    return failing_in_one_line(run)


async def _serve(settings: Settings, listening: socket.socket) -> None:
    leaving = asyncio.Event()
    leaving_seconds = max(settings.drain_seconds, _LEAST_LEAVING_SECONDS)
    _listen_to_signals(leaving, leaving_seconds)
    meter = Meter()
    async with open_service(settings, meter) as service:
        if leaving.is_set():
            return
        _collect_rarely()
        closing_seconds = min(_CLOSING_SECONDS, settings.drain_seconds / 5)
        config = uvicorn.Config(
            app_for(service, settings, meter),
            http=bounded_protocol(_bounds(settings), meter),
            ws=bounded_socket_protocol(settings.body_seconds),
            lifespan="off",
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_interval=settings.lease_seconds / 3,
            # A silent client is the session's to close: uvicorn's own time limit would close it with another code.
            ws_ping_timeout=None,
            ws_per_message_deflate=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=closing_seconds / 2,  # type: ignore[arg-type]  # it is only ever waited for
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        server = _Server(config)
        _listen_to_signals(leaving, leaving_seconds, server)
        async with asyncio.TaskGroup() as tasks:
            drain_seconds = settings.drain_seconds - closing_seconds
            drain = tasks.create_task(_drain_then_leave(server, service, leaving, drain_seconds))
            _tell_where(settings, listening)
            await server.serve(sockets=[listening])
            drain.cancel()


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        connections=_room_for_connections(settings.max_connections),
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
    )


def _room_for_connections(wanted: int) -> int:
    """Return how many connections the system lets this process have, after raising its limit of open files.

    The event loop would not bear an accept that fails for want of a file.
    """
    others = REFUSED_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + others
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < files:
            wanted = max(1, soft - others)
            get_logger().warning("connections.limited", connections=wanted, open_files=soft)
    return wanted


def _collect_rarely() -> None:
    """Spare what waits for its commit from the garbage collector.

    With 50 requests waiting it was run every few requests, and took a third of the time of each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _listen_to_signals(leaving: asyncio.Event, leaving_seconds: float, server: uvicorn.Server | None = None) -> None:
    """Drain at the first signal, leave at once at the second; each sets an end to it, whatever is stuck."""

    def hear() -> None:
        if leaving.is_set():
            _exit_after(_SECOND_SIGNAL_SECONDS)
            if server is not None:
                server.force_exit = server.should_exit = True
        else:
            _exit_after(leaving_seconds)
        leaving.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)


def _exit_after(seconds: float) -> None:
    """End the process then, unless it has ended by itself; to the database that is a kill, which loses nothing.

    By a thread: a stalled disk may hold up the event loop too, or what comes after it. The event loop tells of it, for
    the log may be on that disk.
    """
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()
    asyncio.get_running_loop().call_later(
        max(0.0, seconds - _LAST_WORDS_SECONDS), lambda: get_logger().error("server.exit_forced")
    )


async def _drain_then_leave(
    server: uvicorn.Server, service: Service, leaving: asyncio.Event, drain_seconds: float
) -> None:
    await leaving.wait()
    get_logger().info("server.draining", drain_seconds=drain_seconds)
    await service.drain(drain_seconds)
    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which closes all sockets first and exits with the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again at the end."""
        yield


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else is begun, so that a taken port is one clear line."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by each connection: a peer that acknowledges nothing is gone after this, whatever it held.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MILLISECONDS)
        listening.bind((settings.host, settings.port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise _Refused(f"cannot listen on {settings.host}:{settings.port}: {reason}") from error
    return listening


def _tell_where(settings: Settings, listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    database = describe_url(settings.database_url)
    get_logger().info("server.started", url=url, docs=f"{url}/docs", database=database)
    print(f"rexecutor serves {url}  docs {url}/docs  database {database}", flush=True)


def read_settings() -> Settings:
    """Return the settings of the environment; what is wrong with them is one line for :func:`failing_in_one_line`."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            f"REXECUTOR_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()
        )
        raise _Refused(f"settings: {faults}") from None
    except SettingsError as error:
        name = str(error).split('"')[1].upper()
        raise _Refused(f'settings: REXECUTOR_{name}: must be JSON, as in ["https://jobs.example.org"]') from None


def _complaint(variable: str, nearest: str | None) -> str:
    return f"{variable} is unknown" + (f", perhaps {nearest} is meant" if nearest else "")


def _configure_logging(settings: Settings) -> None:
    configure_logging(settings.log_level, json=None if settings.log_format == "auto" else settings.log_format == "json")


def failing_in_one_line(run: Callable[[], None]) -> int:
    """Run a command; what people can mend becomes one line. Return the exit status."""
    failure = ""
    try:
        run()
    except* (_Refused, DatabaseUnusable, UnusableUrl) as group:
        failure = str(_first(group))
    if not failure:
        return 0
    print(f"rexecutor: {failure}", file=sys.stderr)
    return 1


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
