"""The demo, as people run it; and that its check can fail."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.commands.demo import by_hand
from app.commands.demo.check import Delivery, Found, find_faults
from app.commands.demo.scenario import PLAN, Ending, Planned
from tests.end_to_end.server import ROOT, Server, environment, run_command

LONGEST_SECONDS = 30


@pytest.fixture(scope="module")
def demo() -> tuple[subprocess.CompletedProcess[str], float]:
    started_at = time.monotonic()
    finished = run_command("demo", seconds=2 * LONGEST_SECONDS)
    return finished, time.monotonic() - started_at


def test_demo_ends_by_itself_with_every_job_as_it_should_be(demo: tuple[subprocess.CompletedProcess[str], float]):
    finished, seconds = demo
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert seconds < LONGEST_SECONDS
    for planned in PLAN:
        assert re.search(rf"^  ✓ {planned.name} +{planned.ending.status}", finished.stdout, re.MULTILINE)
    assert f"All {len(PLAN)} jobs are as they should be" in finished.stdout


def test_demo_tells_what_happens_in_plain_lines_where_there_is_no_terminal(
    demo: tuple[subprocess.CompletedProcess[str], float],
):
    told = demo[0].stdout
    assert "\x1b" not in told
    for event in ("enqueued again: it exists", "SIGKILL for video-", "lost: no sign of life", "cancelled over HTTP"):
        assert event in told
    assert by_hand.LINES in told


def test_lines_to_go_on_by_hand_work_as_printed(tmp_path: Path):
    with Server(tmp_path, lease_seconds=30).running() as server:
        lines = by_hand.LINES.replace("http://127.0.0.1:8000", server.url)
        assert lines != by_hand.LINES
        for job_id in (1, 2):
            shell = subprocess.run(["sh", "-e"], input=lines, capture_output=True, check=True, timeout=30, text=True)
            assert f'{{"id":{job_id},"status":"complete","duplicate":false}}' in shell.stdout


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes where Linux has them")
def test_interrupted_demo_leaves_no_process_behind(tmp_path: Path):
    """It is interrupted while its workers work; they and the service bear its folder in their environment."""
    mark = str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "demo"],
        cwd=ROOT,
        env={**environment(), "TMPDIR": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "begun by" in line:
            break
    assert len(_processes_with(mark)) > 3
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "rexecutor demo: interrupted\n")
    assert _processes_with(mark) == []
    assert list(tmp_path.iterdir()) == []


JOB = {
    "id": 1,
    "status": "complete",
    "attempt": 1,
    "errors": [],
    "attempted_by": ["mail-1"],
    "scheduled_at": "2030-01-01T08:00:00.000000Z",
    "attempted_at": "2030-01-01T08:00:00.002000Z",
}
EIGHT = 1_893_484_800.0


def faults(
    *, ending: Ending | None = None, arrived_at: float = EIGHT, told_to_stop: bool = False, **members: Any
) -> list[str]:
    plan = [Planned("job", "mail", 0.1, ending=ending or Ending(workers=1)), Planned("other", "mail", 0.1)]
    other = {**JOB, "id": 2, "attempted_at": "2030-01-01T08:00:00.001000Z"}
    deliveries = [Delivery(1, "mail-1", EIGHT, arrived_at)]
    found = Found({"job": {**JOB, **members}, "other": other}, deliveries, frozenset({1} if told_to_stop else ()))
    return find_faults(plan, found).get("job", [])


def test_check_passes_a_job_that_is_as_it_should_be():
    assert faults() == []


@pytest.mark.parametrize(
    ("different", "fault"),
    [
        ({"status": "retryable"}, "status is retryable, not complete"),
        ({"attempt": 2}, "attempt is 2, not 1"),
        ({"errors": [{"error_type": "lost"}]}, "errors is ['lost'], not []"),
        ({"attempted_by": ["mail-1", "mail-2"]}, "number of workers is 2, not 1"),
        ({"arrived_at": EIGHT - 0.5}, "mail-1 had it 0.500000 s early"),
        ({"attempted_at": "2030-01-01T07:59:59.999999Z"}, "its last attempt began before its time"),
        ({"told_to_stop": True}, "its worker was told to stop"),
        ({"ending": Ending(told_to_stop=True)}, "its worker was not told to stop"),
        ({"ending": Ending(no_later_than=["other"])}, "other was started before it"),
    ],
)
def test_check_names_what_is_wrong_with_a_job(different: dict[str, Any], fault: str):
    assert faults(**different) == [fault]


def test_check_misses_a_job_that_is_gone_and_finds_one_too_many():
    found = Found({"stray": JOB}, [], frozenset())
    assert find_faults([Planned("job", "mail", 0.1)], found) == {
        "job": ["the service does not have it"],
        "stray": ["nobody planned it"],
    }


def _processes_with(mark: str) -> list[int]:
    """Ids of living processes that have this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
