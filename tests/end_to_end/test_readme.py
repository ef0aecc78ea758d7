"""The README's lines, run as they are printed."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from queue import Queue

import pytest

from tests.end_to_end.server import Server

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
BY_HAND = next(block for language, block in BLOCKS if "Claim, as a worker does" in block)
PRINTED = next(block for language, block in BLOCKS if language == "text")
WORKER = next(block for language, block in BLOCKS if language == "python")
TASKS = next(block for language, block in BLOCKS if block.startswith("# tasks.py"))
WITH_THE_CLIENT = next(block for language, block in BLOCKS if "work tasks:send" in block)
NOW_AND_LATER = next(block for language, block in BLOCKS if "in two seconds" in block)


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path).running() as server:
        yield server


def run_lines(server: Server, lines: str) -> str:
    """Run lines of shell as a reader would, against the server's port."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines.replace("localhost:8000", server.url.removeprefix("http://"))],
        env={**os.environ, "no_proxy": "*"},
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    ).stdout


def test_lines_by_hand_print_what_the_readme_says(server):
    assert run_lines(server, BY_HAND).replace("}{", "}\n{") == PRINTED.strip()


def test_worker_has_15_lines_and_does_what_it_is_given(server, tmp_path):
    assert len([line for line in WORKER.splitlines() if line.strip()]) <= 15
    script = tmp_path / "worker.py"
    script.write_text(WORKER.replace("localhost:8000", server.url.removeprefix("http://")))
    lines: Queue[str] = Queue()
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()])
    reader.start()
    try:
        assert run_lines(server, NOW_AND_LATER).count("inserted") == 2
        assert [lines.get(timeout=10).strip() for _ in range(2)] == [
            "attempt 1 of job 1: now",
            "attempt 1 of job 2: in two seconds",
        ]
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def test_lines_with_the_client_run_a_job(server, tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    lines = WITH_THE_CLIENT.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    # Then look until it is done, and end the worker as Ctrl-C would.
    script = f"{lines}\nwhile ! grep -q attempt worker.out; do sleep 0.05; done; kill -INT %1; wait %1\n"
    ended = subprocess.run(
        ["bash", "-m", "-c", script.replace("tasks:send &", "tasks:send > worker.out &")],
        cwd=tmp_path,
        env={**os.environ, "REXECUTOR_URL": server.url, "no_proxy": "*"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "worker.out").read_text() == "attempt 1: an email to ada@example.org\n"
    assert "email" in ended.stdout
