"""The testing support, as a program has it that knows nothing of this project: in a pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "of_a_program"


@pytest.mark.timeout(120)
def test_tests_of_a_program_pass_with_the_fixture():
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--confcutdir", PROGRAM, "--rootdir", PROGRAM]
    command = [sys.executable, "-m", "pytest", *options, "-o", "asyncio_mode=auto", "-W", "ignore", PROGRAM]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=PROGRAM)
    assert ended.returncode == 0, ended.stdout[-6_000:]
    assert " passed" in ended.stdout


def test_pytest_pays_nothing_for_the_plugin_until_it_is_used():
    code = "import sys, rexecutor_client.pytest_plugin; print({'httpx2', 'rexecutor_server'} & {*sys.modules})"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "set()"
