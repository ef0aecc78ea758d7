"""The service in a thread of this process, for the tests of programs that use it: with a clock that they may move."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread

import uvicorn
import uvloop

from ..domain.instant import MICROSECOND, Instant
from ..main import create_app
from ..settings import Settings
from ..store.dialects.base import process_clock

_START_SECONDS = 30.0


class MovableClock:
    """This process's clock, ahead of it by as much as it was moved; never back."""

    def __init__(self) -> None:
        """Begin with the true time."""
        self._ahead = 0

    def __call__(self) -> Instant:
        """Return the time."""
        return process_clock() + self._ahead

    def move(self, by: timedelta) -> None:
        """Let time pass at once. Raises ValueError for less than none: leases and fences know no way back."""
        if by < timedelta(0):
            raise ValueError("the service's clock cannot be moved back")
        self._ahead += by // MICROSECOND


class ServiceInProcess:
    """A service that runs in a thread of its own, on a free port of this machine."""

    def __init__(self, database: Path) -> None:
        """Serve a database file."""
        self.url = ""
        self._clock = MovableClock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        settings = Settings(database_url=f"sqlite:///{database}", reserve_bytes=0)
        self._app = create_app(settings, clock=self._clock)
        config = uvicorn.Config(
            self._app, ws="websockets-sansio", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._loop = uvloop.new_event_loop()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="rexecutor-service", daemon=True)

    def now(self) -> Instant:
        """Return the service's time."""
        return self._clock()

    def move_clock(self, by: timedelta) -> None:
        """Let time pass for the service at once; what falls due is handed out."""
        self._clock.move(by)
        asyncio.run_coroutine_threadsafe(self._app.state.service.clock_moved(), self._loop).result()

    @contextmanager
    def running(self) -> Iterator["ServiceInProcess"]:
        """Serve while the context lasts."""
        self._thread.start()
        try:
            self._wait_until_it_serves()
            yield self
        finally:
            self._server.should_exit = True
            self._thread.join()
            self._listening.close()

    def _wait_until_it_serves(self) -> None:
        for _ in range(int(_START_SECONDS / 0.002)):
            if self._server.started:
                host, port = self._listening.getsockname()
                self.url = f"http://{host}:{port}"
                return
            self._thread.join(0.002)
            if not self._thread.is_alive():
                break
        raise RuntimeError("the service did not start") from self._failure

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._server.serve(sockets=[self._listening]))
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._failure = error
