"""The processes of the demo, the service and its workers, each ended by its pid whatever happens."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread, Timer
from types import TracebackType
from typing import IO, Any, Self

_PACKAGE = (__package__ or "").partition(".")[0]
"""``app`` in a checkout, ``rexecutor_server`` where the wheel is installed."""
_START_SECONDS = 10.0
_END_SECONDS = 5.0


class NotStarted(Exception):
    """The service did not come up; the message is what it said."""


class Processes:
    """Starts processes, hears what the workers tell, and ends all of them when left."""

    def __init__(self, folder: Path) -> None:
        """Keep the database and the logs in a folder."""
        self._folder = folder
        self._log = (folder / "demo.log").open("w", encoding="utf-8")
        self._service: subprocess.Popen[str] | None = None
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._events: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the workers, then the service; when interrupted, without waiting for what the workers do."""
        try:
            _end(list(self._workers.values()), at_once=kind is not None)
        finally:
            _end([self._service] if self._service else [])
            self._log.close()

    def start_service(self, *, lease_seconds: float) -> str:
        """Start the service on an empty database and a free port; return its URL. Raises NotStarted."""
        settings = {
            "REXECUTOR_PORT": "0",
            "REXECUTOR_DATABASE_URL": f"sqlite:///{self._folder / 'demo.db'}",
            "REXECUTOR_LEASE_SECONDS": str(lease_seconds),
            "REXECUTOR_LOG_FORMAT": "json",
        }
        self._service = self._start([_PACKAGE, "serve"], settings)
        impatience = Timer(_START_SECONDS, self._service.kill)
        impatience.start()
        try:
            line = _lines_of(self._service).readline()
        finally:
            impatience.cancel()
        for word in line.split():
            if word.startswith("http://"):
                return word
        raise NotStarted(self._last_words() or "the service did not start")

    def start_worker(self, executor: str, name: str, url: str) -> None:
        """Start a worker; what it tells is kept for :meth:`events`."""
        worker = self._start([f"{__package__}.worker", url, executor, name], {})
        self._workers[name] = worker
        Thread(target=self._listen, args=[worker], name=name, daemon=True).start()

    def kill_worker(self, name: str) -> None:
        """End a worker without a chance to say anything."""
        self._workers[name].kill()

    def events(self, *, seconds: float) -> list[dict[str, Any]]:
        """Return what workers told, waiting for it at most this long."""
        events: list[dict[str, Any]] = []
        until = time.monotonic() + seconds
        with suppress(Empty):
            while True:
                events.append(self._events.get(timeout=max(until - time.monotonic(), 0)))
        return events

    def _start(self, module_and_arguments: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.upper().startswith("REXECUTOR_")}
        return subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *module_and_arguments],
            env={**own, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            # Out of the terminal's reach: at Ctrl-C the demo ends them in good order.
            start_new_session=True,
        )

    def _listen(self, worker: subprocess.Popen[str]) -> None:
        for line in _lines_of(worker):
            # A killed worker's last line may be cut.
            with suppress(ValueError):
                self._events.put(json.loads(line))

    def _last_words(self) -> str:
        lines = (self._folder / "demo.log").read_text(encoding="utf-8").splitlines()
        return lines[-1] if lines else ""


def _lines_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None  # noqa: S101 - for the type checker
    return process.stdout


def _end(processes: list[subprocess.Popen[str]], *, at_once: bool = False) -> None:
    """End processes in good order, those that take too long without it."""
    for process in processes:
        if at_once:
            process.kill()
        else:
            process.terminate()
    until = time.monotonic() + _END_SECONDS
    for process in processes:
        try:
            process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
