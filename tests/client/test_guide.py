"""docs/python.md: its blocks, run as they stand there."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import Server

GUIDE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, re.DOTALL))
LINES = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the guide's files."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def environment(served: Server) -> dict[str, str]:
    """With the commands of this installation first, and the service's address."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "REXECUTOR_URL": served.url, "no_proxy": "*"}


@pytest.fixture
def worker(folder, environment) -> Iterator[Path]:
    """The guide's worker; the file that it prints to."""
    printed = folder / "worker.out"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {told('rexecutor work')}"], cwd=folder, env=environment, stdout=output
        )
    try:
        yield printed
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def told(beginning: str) -> str:
    """The line of the guide that begins so."""
    (line,) = (line for line in LINES if line.startswith(beginning))
    return line


def run(line: str, folder: Path, environment: dict[str, str]) -> str:
    ended = subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_five_minutes(folder, environment, worker):
    assert run(told("python enqueue.py"), folder, environment).strip() == "1 2"
    watched = run(told("rexecutor jobs watch"), folder, environment)
    assert watched.count("complete") == 2
    assert worker.read_text().splitlines() == [
        "attempt 1: hello to ada@example.org",
        "attempt 1: hello to bob@example.org",
    ]


def test_many_jobs(folder, environment):
    assert run("python many.py", folder, environment).strip() == "1100 wait"


def test_executors_can_be_defined(folder, environment):
    code = "import executors as e; print(e.write_invoice.job({}).tags, e.Resize().name)"
    assert run(f'python -c "{code}"', folder, environment).strip() == "['billing'] resize"


def test_tests_pass(folder, environment):
    options = "-q -p no:cacheprovider -c /dev/null --rootdir . -o asyncio_mode=auto -W ignore"
    assert "2 passed" in run(f"python -m pytest {options} test_tasks.py", folder, environment)


def test_commands_of_the_guide_are_known():
    assert told("rexecutor serve") == "rexecutor serve"
    assert told("pip install") == "pip install rexecutor-client rexecutor-server"
