"""The command on a terminal: what it asks, what moves, and what colours."""

import os
import pty
import re
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from rexecutor_client.job import EnqueuableJob
from rexecutor_client.where import Where
from tests.client.cli.command import COMMAND
from tests.end_to_end.server import environment

SECONDS = 15


class Terminal:
    """A command on a terminal of its own, 100 columns wide."""

    def __init__(self, *arguments, url, **variables):
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env={**environment(url=url), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text):
        """Wait until a text has been shown."""
        until = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            assert self._process.poll() is None or self._read(), self.seen
            self._read()
            time.sleep(0.01)

    def type(self, text):
        os.write(self._ours, text.encode())

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    def end(self):
        """Wait for its end; return its exit code."""
        until = time.monotonic() + SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < until, self.seen
            self._read()
            time.sleep(0.01)
        while self._read():
            pass
        return self._process.returncode

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)

    def _read(self):
        with suppress(OSError):
            text = os.read(self._ours, 65_536).decode(errors="replace")
            self.seen += text
            return bool(text)
        return False


@pytest.fixture
def terminal(server):
    opened = []

    def open_terminal(*arguments, **variables):
        opened.append(Terminal(*arguments, url=server.url, **variables))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 3), ("", 1, 3)])
def test_prune_asks_before_it_deletes(terminal, client, executor, answer, code, left):
    client.enqueue_many([EnqueuableJob(executor=executor)] * 3)
    prune = terminal("jobs", "prune", "scheduled", "--max-length", 0, "--executor", executor)
    prune.wait_for("Delete 3 scheduled jobs for good? [y/N] ")
    prune.type(answer + "\n")
    assert prune.end() == code
    assert ("3 deleted" if code == 0 else "nothing was deleted") in prune.seen
    assert len([*client.jobs(Where.executor_equals(executor))]) == left


def test_status_moves_until_it_is_interrupted(terminal, client, executor):
    status = terminal("status", "--every", 0.1)
    status.wait_for("ready")
    # Other tests' executors are there too, and a terminal has room for the first of them only.
    first = f"0-{executor}"
    client.enqueue(EnqueuableJob(executor=first))
    status.wait_for(first)
    status.interrupt()
    assert status.end() == 0
    assert "Traceback" not in status.seen


def test_status_with_once_ends_by_itself(terminal):
    status = terminal("status", "--once")
    assert status.end() == 0
    assert "ready" in status.seen


def test_table_is_as_wide_as_the_terminal_and_its_heading_is_bold(terminal, client, executor):
    client.enqueue(EnqueuableJob(executor=executor, data="x" * 300))
    listing = terminal("jobs", "list", "--executor", executor)
    assert listing.end() == 0
    heading, row = listing.seen.splitlines()
    assert heading.startswith("\x1b[1m")
    assert row.endswith("…")
    assert len(row) <= 100


def test_no_color_leaves_colours_out(terminal, client, executor):
    client.enqueue(EnqueuableJob(executor=executor))
    listing = terminal("jobs", "list", "--executor", executor, NO_COLOR="1")
    assert listing.end() == 0
    assert "\x1b" not in listing.seen


def test_worker_shows_a_line_of_how_it_does(terminal, client, executor, tmp_path):
    (tmp_path / "my_app.py").write_text(
        f"from rexecutor_client.execution import executor\n\n@executor({executor!r})\nasync def send(job): ...\n"
    )
    client.enqueue_many([EnqueuableJob(executor=executor)] * 3)
    worker = terminal("work", "my_app", PYTHONPATH=str(tmp_path))
    worker.wait_for("0 running, 3 done, 0 failed")
    worker.interrupt()
    assert worker.end() == 0
    assert re.search(r"stopped: 3 done, 0 failed", worker.seen)
