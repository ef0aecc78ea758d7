"""A served service for the command's tests; each test has an executor of its own there."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from rexecutor_client.cli import run
from rexecutor_client.sync_client import Client
from tests.end_to_end.server import Server


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only document that it printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The documents that it printed, one on each line."""
        return [json.loads(line) for line in self.out.splitlines()]


Rexecutor = Callable[..., Ran]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("cli")).running() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture
def executor() -> str:
    """A name that no other test uses."""
    return f"mail-{uuid4().hex[:8]}"


@pytest.fixture
def rexecutor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Rexecutor:
    """Runs the command in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any, stdin: str | bytes = "", url: str | None = None) -> Ran:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        monkeypatch.delenv("REXECUTOR_API_KEY", raising=False)
        if url is None:
            monkeypatch.delenv("REXECUTOR_URL", raising=False)
        else:
            monkeypatch.setenv("REXECUTOR_URL", url)
        capsys.readouterr()
        code = run([*map(str, arguments)])
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def rex(rexecutor: Rexecutor, server: Server) -> Rexecutor:
    """Runs the command in this process, for the served service."""

    def call(*arguments: Any, stdin: str | bytes = "") -> Ran:
        return rexecutor(*arguments, stdin=stdin, url=server.url)

    return call
