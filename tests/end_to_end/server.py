"""A real server for tests: the command in a process of its own, real sockets, real kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
THIS_VERSION = sys.executable, "-m", "app"
START_SECONDS = 20
STOP_SECONDS = 20
# Leases run by the settings of each test; the names of settings are those of the environment, in small letters.
DEFAULTS = {
    "host": "127.0.0.1",
    "port": "0",
    "lease_seconds": "1",
    "drain_seconds": "1",
    "log_level": "DEBUG",
    "reserve_bytes": "0",
}


def environment(**settings: Any) -> dict[str, str]:
    """The environment with these settings and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("REXECUTOR_")}
    return {**own, **{f"REXECUTOR_{name.upper()}": str(value) for name, value in settings.items()}}


def run_command(*arguments: str, seconds: float = START_SECONDS, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run `rexecutor` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
        encoding="utf-8",
    )


class Server:
    """`rexecutor serve` on ``jobs.db`` in a folder; may be started again on the same file and port."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        files: tuple[int, int] | None = None,
        command: tuple[str, ...] = THIS_VERSION,
        **settings: Any,
    ) -> None:
        """Settings are named as in the environment, in small letters; ``files`` limits open ones, soft and hard."""
        self.database = folder / "jobs.db"
        self.log = folder / "server.log"
        self.settings = {**DEFAULTS, "database_url": f"sqlite:///{self.database}", **settings}
        self.told = ""
        self._command = command
        self._arguments = arguments
        self._limits: list[str] = []
        if files is not None:
            soft, hard = files
            self._limits = ["sh", "-c", f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$@"', "sh"]
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['port']}"

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it serves; the port that it took stays its port."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._limits, *self._command, "serve", *self._arguments],
                cwd=ROOT,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )
        assert self._process.stdout is not None
        self.told = self._process.stdout.readline()
        if " serves http://" not in self.told:
            self.kill()
            raise AssertionError(self.log.read_text())
        self.settings["port"] = self.told.split()[2].rpartition(":")[2]

    def kill(self) -> None:
        """End it as a power cut would: kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        return self._end(signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended by itself; return its exit status."""
        return self._end(0, seconds)

    def pause(self) -> None:
        """Let it stall."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End the stall."""
        os.kill(self.pid, signal.SIGCONT)

    def events(self) -> list[dict[str, Any]]:
        """What it logged, of all its lives."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def failures(self) -> list[dict[str, Any]]:
        """What it logged as lost work or as its own mistakes."""
        return [event for event in self.events() if event["level"] in {"error", "critical"} or "exception" in event]

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Start it, and stop it at the end whatever happened; it must have made no mistakes."""
        self.start()
        try:
            yield self
        finally:
            status = self.stop() if self._process is not None else 0
        assert status == 0, self.log.read_text()
        assert not self.failures(), self.failures()

    def _end(self, number: int, seconds: float = STOP_SECONDS) -> int:
        process, self._process = self._process, None
        assert process is not None
        if number:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()


def http_client(url: str, **options: Any) -> httpx2.AsyncClient:
    """A client for the service at a URL; a proxy from the environment has no business here."""
    return httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False, **options)


def wait_until(condition: Any, *, seconds: float = 15) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass in time"
        time.sleep(0.02)
