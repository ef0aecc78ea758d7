"""What a command imports, what it says of itself, and how shells complete it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rexecutor_client.cli import COMMANDS, JOBS
from rexecutor_client.commands.exits import Exit
from tests.end_to_end.server import environment

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"
SHOW_IMPORTS = """
import sys
from rexecutor_client.cli import run
code = run(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
SERVER = {
    "app",
    "rexecutor_server",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "sqlmodel",
    "pydantic",
    "uvicorn",
    "structlog",
}
NETWORK = {"httpx2", "websockets", "asyncio", "stamina"}


ASK = """
source "$1"
function=$(complete -p rexecutor | sed "s/.*-F \\([^ ]*\\).*/\\1/")
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$function
echo "${COMPREPLY[@]}"
"""


def imported_by(*arguments, **settings):
    ran = subprocess.run(
        [sys.executable, "-c", SHOW_IMPORTS, *arguments],
        env=environment(**settings),
        capture_output=True,
        check=True,
        timeout=20,
        text=True,
    )
    return {*ran.stderr.split()}


@pytest.mark.parametrize("arguments", [("--version",), ("jobs", "--help")], ids=" ".join)
def test_what_needs_no_service_imports_no_network(arguments):
    assert not imported_by(*arguments) & (SERVER | NETWORK)


def test_client_command_imports_neither_the_server_nor_what_it_does_not_use(server):
    """Structlog comes with the retries, where it is installed; websockets and asyncio are for workers."""
    imported = imported_by("jobs", "list", "--limit", "1", url=server.url)
    assert "httpx2" in imported
    assert not imported & {
        *SERVER - {"structlog"},
        "websockets",
        "rexecutor_client.worker",
        "rich.progress",
        "rich.live",
    }


@pytest.mark.parametrize("name", [*COMMANDS])
def test_command_says_of_itself_what_the_list_says(rexecutor, name):
    assert COMMANDS[name][1] == rexecutor(name, "--help").out.splitlines()[2].strip()


@pytest.mark.parametrize("name", [*JOBS])
def test_command_for_jobs_says_of_itself_what_the_list_says(rexecutor, name):
    assert JOBS[name][1] == rexecutor("jobs", name, "--help").out.splitlines()[2].strip()


def test_help_lists_the_commands_that_an_installed_server_adds(rexecutor):
    out = rexecutor("--help").out
    server = out.partition(" Server ")[2]
    for name in ("serve", "migrate", "copy", "demo", "openapi", "settings", "metrics"):
        assert f"│ {name} " in server
    assert "Bring the database's schema to head." in server


def test_no_arguments_show_the_help(rexecutor):
    assert rexecutor() == rexecutor("--help")


def test_server_command_runs_as_one_of_its_own(rexecutor):
    ran = rexecutor("metrics")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("| ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_a_shell_and_knows_the_commands(rexecutor, shell, tmp_path):
    ran = rexecutor("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    for word in ("enqueue", "watch", "serve", "--idempotency-key"):
        assert word.removeprefix("--") in ran.out
    if (program := shutil.which(shell)) is not None:
        script = tmp_path / "script"
        script.write_text(ran.out)
        subprocess.run([program, "-n", str(script)], check=True, timeout=20)


def test_bash_completes_commands_and_options(rexecutor, tmp_path):
    script = tmp_path / "script"
    script.write_text(rexecutor("completion", "bash").out)

    def completed(*words):
        return subprocess.run(
            ["bash", "-c", ASK, "bash", str(script), *words], check=True, capture_output=True, timeout=20, text=True
        ).stdout.split()

    assert "enqueue" in completed("rexecutor", "en")
    assert "watch" in completed("rexecutor", "jobs", "wa")
    assert "--executor" in completed("rexecutor", "jobs", "list", "--ex")


def test_docs_tell_of_every_command():
    documented = DOCS.read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"`{name}" in documented, name
    for name in JOBS:
        assert f"`jobs {name}" in documented or f"`{name} ID" in documented, name


def test_docs_tell_every_exit_code():
    told = re.findall(r"^\| (\d+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [*map(int, told)] == [*Exit]
