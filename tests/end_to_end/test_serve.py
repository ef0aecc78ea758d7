"""`rexecutor serve` and `migrate` as processes: what they print, how they end, what keeps them from starting."""

import json
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from app.commands.serve import serve
from tests.end_to_end.server import Server, run_command

PROMPT_SECONDS = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("serve")).running() as server:
        yield server


def get(server: Server, path: str) -> httpx2.Response:
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        return http.get(path)


def enqueue(server: Server) -> int:
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        answer = http.post("/v1/jobs", json={"executor": "mail", "data": {"to": "ada"}})
        assert answer.status_code == 201
        job_id: int = answer.json()["id"]
        return job_id


def assert_one_line(finished: Any, pattern: str) -> None:
    """It failed with one line for people, which names neither code nor traceback."""
    lines = finished.stderr.splitlines()
    assert len(lines) == 1, finished.stderr[-3_000:]
    assert re.fullmatch(pattern, lines[0])
    assert (finished.returncode, finished.stdout) == (1, "")


def test_serve_prints_its_url_its_docs_and_its_database_file(server: Server):
    assert server.told == f"rexecutor serves {server.url}  docs {server.url}/docs  database {server.database}\n"
    assert get(server, "/docs").status_code == 200
    assert get(server, "/readyz").json() == {"status": "ok"}
    assert server.database.exists()


def test_serve_logs_json_lines_where_there_is_no_terminal(server: Server):
    started = next(event for event in server.events() if event["event"] == "server.started")
    assert started["level"] == "info"
    assert started["url"] == server.url


def test_taken_port_is_one_clear_line(server: Server, tmp_path: Path):
    port = server.settings["port"]
    finished = run_command("serve", port=port, database_url=f"sqlite:///{tmp_path}/other.db")
    assert_one_line(finished, rf"rexecutor: cannot listen on 127\.0\.0\.1:{port}: address already in use")
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_file_that_another_server_holds_is_one_clear_line(server: Server, command: str):
    finished = run_command(command, port=0, database_url=f"sqlite:///{server.database}")
    assert_one_line(finished, r"rexecutor: another rexecutor server holds .*/jobs\.db")
    assert get(server, "/readyz").status_code == 200


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"PORT": "eight"}, r"rexecutor: settings: REXECUTOR_PORT: .*integer.*"),
        ({"PORT": "65536"}, r"rexecutor: settings: REXECUTOR_PORT: .*65535.*"),
        ({"LEASE_SECONDS": "0.1"}, r"rexecutor: settings: REXECUTOR_LEASE_SECONDS: .*0\.5.*"),
        ({"LEASE_SECONDS": "nan"}, r"rexecutor: settings: REXECUTOR_LEASE_SECONDS: .*"),
        ({"PORT": "-1", "MIGRATE": "perhaps"}, r"rexecutor: settings: REXECUTOR_PORT: .*; REXECUTOR_MIGRATE: .*"),
        ({"ALLOWED_ORIGINS": "https://jobs.example.org"}, r"rexecutor: settings: .*ALLOWED_ORIGINS.*"),
    ],
    ids=str,
)
def test_bad_setting_is_one_clear_line(
    settings: dict[str, str], pattern: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In this process: a setting is refused before anything is begun."""
    for name, value in settings.items():
        monkeypatch.setenv(f"REXECUTOR_{name}", value)
    assert serve() == 1
    told, failure = capsys.readouterr()
    assert told == ""
    assert re.fullmatch(pattern + r"\n", failure)


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"host": "256.0.0.1"}, r"rexecutor: cannot listen on 256\.0\.0\.1:.*"),
        ({"database_url": "mysql://db"}, r"rexecutor: expected a database URL .*"),
        ({"database_url": "sqlite://"}, r"rexecutor: an SQLite database must be a file.*"),
    ],
    ids=str,
)
def test_address_or_url_that_cannot_be_used_is_one_clear_line(settings: dict[str, str], pattern: str, tmp_path: Path):
    good = {"port": 0, "database_url": f"sqlite:///{tmp_path}/jobs.db"}
    assert_one_line(run_command("serve", **{**good, **settings}), pattern)


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["serve"], "nowhere/jobs.db"),
        (["migrate"], "nowhere/jobs.db"),
        (["serve"], "file/jobs.db"),
        (["serve"], "folder"),
        (["serve"], "text.db"),
        (["serve", "--no-migrate"], "text.db"),
    ],
    ids=str,
)
def test_database_that_cannot_be_used_is_one_clear_line(command: list[str], path: str, tmp_path: Path):
    """A folder that does not exist, one that is a file, a file that is a folder, and one that is no database."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("no database at all " * 200)
    assert_one_line(run_command(*command, port=0, database_url=f"sqlite:///{tmp_path / path}"), r"rexecutor: .+")


def test_sigterm_ends_an_idle_server_promptly(tmp_path: Path):
    server = Server(tmp_path)
    with server.running():
        address = server.url.replace("http", "ws", 1)
        with (
            connect(f"{address}/v1/executors/mail/subscribe?prefetch=5", proxy=None) as socket,
            httpx2.Client(base_url=server.url, trust_env=False) as http,
        ):
            assert json.loads(socket.recv())["type"] == "hello"
            assert http.get("/livez").status_code == 200
            started_at = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started_at < PROMPT_SECONDS
    assert "worker.connected" in [event["event"] for event in server.events()]


def test_sigterm_answers_long_polls_that_wait(tmp_path: Path):
    """Their callers get an answer, no cut connection, however long they wanted to wait."""
    server = Server(tmp_path)
    with server.running():
        raw = socket.create_connection(("127.0.0.1", int(server.settings["port"])))
        body = b'{"wait":60}'
        raw.sendall(
            b"POST /v1/executors/mail/claim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        time.sleep(0.3)  # nothing tells from outside that the request has begun to wait
        started_at = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started_at < PROMPT_SECONDS
        raw.settimeout(PROMPT_SECONDS)
        answer = raw.makefile("rb").read()
        raw.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"jobs":[]}')


def test_jobs_are_kept_over_a_restart(tmp_path: Path):
    server = Server(tmp_path)
    with server.running():
        first = enqueue(server)
        port = server.settings["port"]
        assert server.stop() == 0
        server.start()
        assert server.settings["port"] == port
        assert get(server, f"/v1/jobs/{first}").json()["data"] == {"to": "ada"}
        assert enqueue(server) > first


def test_migrate_creates_the_schema(tmp_path: Path):
    server = Server(tmp_path, "--no-migrate")
    finished = run_command("migrate", database_url=server.settings["database_url"])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{server.database} is at head\n"
    with server.running():
        assert get(server, "/readyz").status_code == 200
        enqueue(server)


def test_migrate_to_a_revision_that_does_not_exist_is_one_clear_line(tmp_path: Path):
    finished = run_command("migrate", "--revision", "nonesuch", database_url=f"sqlite:///{tmp_path}/jobs.db")
    assert_one_line(finished, r"rexecutor: .*nonesuch.*")


def test_database_of_a_later_version_is_one_clear_line(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    assert run_command("migrate", database_url=url).returncode == 0
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    connection.close()
    assert_one_line(run_command("serve", port=0, database_url=url), r"rexecutor: .+")


def test_server_told_not_to_migrate_an_empty_file_says_that_it_is_not_ready(tmp_path: Path):
    # With a long lease, so that rescue does not begin while this looks: it cannot but fail here.
    server = Server(tmp_path, migrate="false", lease_seconds=60)
    with server.running():
        answer = get(server, "/readyz")
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/not-ready"
        assert "schema" in answer.json()["detail"]
        assert get(server, "/livez").status_code == 200
