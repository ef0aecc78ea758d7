"""How the command ends: the exit codes, and what is said when something goes wrong."""

import os
import signal
import socket
import subprocess
from importlib.metadata import EntryPoint

import pytest

from rexecutor_client import cli
from rexecutor_client.commands.exits import Exit
from rexecutor_client.job import EnqueuableJob
from tests.client.cli.command import COMMAND
from tests.end_to_end.server import environment


@pytest.fixture
def unused_url():
    """An address at which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def start(*arguments, url, stdin=None, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(url=url),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **options,
    )


def test_codes_are_those_of_the_docs():
    assert {code.name: code.value for code in Exit} == {
        "DONE": 0,
        "REFUSED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "INTERRUPTED": 130,
    }


def test_refusal_names_the_place_that_is_wrong(rex, executor):
    ran = rex("enqueue", executor, "--priority", 70_000)
    assert (ran.code, ran.out) == (Exit.REFUSED, "")
    title, place = ran.err.splitlines()
    assert title.startswith("rexecutor: ")
    assert place.startswith("  /priority: ")


def test_service_that_does_not_answer_is_an_exit_code_of_its_own(rexecutor, unused_url):
    ran = rexecutor("executors", url=unused_url)
    assert (ran.code, ran.out) == (Exit.UNREACHABLE, "")
    assert ran.err.startswith(f"rexecutor: {unused_url} did not answer: ")
    assert len(ran.err.splitlines()) == 2


def test_url_is_an_option_too_and_counts_for_more_than_the_environment(rexecutor, server, unused_url):
    assert rexecutor("executors", "--url", server.url, url=unused_url).code == Exit.DONE


@pytest.mark.parametrize("command", [("executors",), ("work", "json"), ("bench",)], ids=" ".join)
@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://127.0.0.1", "http://", "http://[::1", "http://a:b", "localhost:8000"]
)
def test_address_that_is_none_is_wrong_usage(rexecutor, command, url):
    ran = rexecutor(*command, "--url", url)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert ran.err == f"rexecutor: {url!r} is no address of a service: write http://127.0.0.1:8000\n"


def test_api_key_goes_with_every_call(rexecutor, monkeypatch):
    """To a stand-in that shows what it was sent, since the service asks for no key yet."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = start("executors", "--api-key", "s3cret", url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        listening.settimeout(20)
        connection, _ = listening.accept()
        with connection:
            request = connection.recv(65_536)
            connection.sendall(
                b"HTTP/1.1 401 x\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        _, told = process.communicate(timeout=20)
    assert b"\r\nauthorization: bearer s3cret\r\n" in request.lower()
    assert process.returncode == Exit.REFUSED
    assert "s3cret" not in told


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("jobs", "nonsense"), ("executors", "extra"), ("jobs", "list", "--limit", "x"), ("jobs", "show")],
)
def test_wrong_usage_is_told_in_a_line_that_leads_to_the_help(rexecutor, arguments):
    ran = rexecutor(*arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    told, hint = ran.err.splitlines()
    assert told.startswith("rexecutor: ")
    assert hint.startswith("Try `rexecutor ")
    assert hint.endswith("--help`.")


def test_mistake_of_the_program_is_a_line_and_no_traceback(rexecutor, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "executors", (f"{__name__}:fail", ""))
    ran = rexecutor("executors")
    assert ran.code == Exit.REFUSED
    assert ran.err.startswith("rexecutor: unexpected ZeroDivisionError: division by zero (test_exits.py, line ")
    assert len(ran.err.splitlines()) == 1


def fail() -> None:
    """Stand for a command with a mistake."""
    _ = 1 / 0


def test_interrupted_command_says_nothing(server, client, executor):
    job_id = client.enqueue(EnqueuableJob(executor=executor)).id
    process = start("jobs", "watch", job_id, url=server.url)
    assert process.stdout.readline().startswith(f"{job_id} scheduled")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (Exit.INTERRUPTED, "", "")


def test_closed_pipe_is_quiet(server, client, executor):
    client.enqueue_many([EnqueuableJob(executor=executor, data="x" * 1_000)] * 1_000)
    process = start("jobs", "list", "--executor", executor, "--limit", 1_000, "--json", url=server.url)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == Exit.DONE
    assert process.stderr.read() == ""
    process.stderr.close()


def test_closed_pipe_is_quiet_also_for_what_is_written_at_the_end(server, client):
    client.enqueue(EnqueuableJob(executor="short"))
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [*COMMAND, "executors"],
        env=environment(url=server.url),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (Exit.DONE, b"")


def test_broken_server_does_not_keep_the_client_from_its_work(rex, monkeypatch):
    broken = EntryPoint("serve", "no_such_module_anywhere:serve", cli.SERVER_COMMANDS)
    monkeypatch.setattr(cli, "entry_points", lambda **_: [broken])
    assert rex("executors").code == Exit.DONE
    assert "cannot be loaded" in rex("--help").out
    ran = rex("serve")
    assert (ran.code, ran.out) == (Exit.REFUSED, "")
    assert len(ran.err.splitlines()) == 1
