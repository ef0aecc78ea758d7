"""A full disk, a real one: jobs are refused with 507 and all else goes on; with room again so do the jobs."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from tests.disks import MIB, fill, small_disk
from tests.end_to_end.server import Server

PATIENCE_SECONDS = 20
RESERVE = 4 * MIB
ERROR = {"error_type": "boom", "message": "x" * 1_000}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 20) as disk:
        yield disk


@contextmanager
def running(disk: Path, **settings: Any) -> Iterator[tuple[Server, httpx2.Client]]:
    """A server whose database is on the disk, its log elsewhere."""
    server = Server(disk.parent, **{"database_url": f"sqlite:///{disk}/jobs.db", "reserve_bytes": RESERVE, **settings})
    server.database = disk / "jobs.db"
    with server.running(), httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as http:
        yield server, http


def enqueue(http: httpx2.Client, executor: str = "mail", size: int = 20_000) -> httpx2.Response:
    return http.post("/v1/jobs", json={"executor": executor, "data": "x" * size})


def enqueue_until_full(http: httpx2.Client, **options: Any) -> list[int]:
    """Add jobs until there is no more room; return the ids of those that were taken."""
    added: list[int] = []
    while (answer := enqueue(http, **options)).status_code == 201:
        added.append(answer.json()["id"])
    assert answer.status_code == 507
    assert answer.json()["type"] == "/problems/insufficient-storage"
    return added


def fill_up(http: httpx2.Client, disk: Path, *, but_bytes: int = 0) -> tuple[Path, set[int]]:
    """Fill the disk, the last bytes with jobs, until nothing is left but what the reserve gave up.

    Return the file that fills it, and the jobs that were added.
    """
    filler = fill(disk, but_bytes=but_bytes)
    added: set[int] = set()
    while True:
        added |= set(enqueue_until_full(http, size=100_000))
        fill(disk, but_bytes=RESERVE // 2)  # a log that was cut has left a little
        time.sleep(1.2)  # room is looked for each second
        if (answer := enqueue(http)).status_code == 507:
            return filler, added
        added.add(answer.json()["id"])


def enqueue_once_there_is_room(http: httpx2.Client) -> int:
    until = time.monotonic() + PATIENCE_SECONDS
    while (answer := enqueue(http)).status_code == 507:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert answer.status_code == 201
    return int(answer.json()["id"])


def post(http: httpx2.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def claim(http: httpx2.Client, limit: int = 1, executor: str = "mail", **members: Any) -> list[dict[str, Any]]:
    body = {"limit": limit, "lease": 600, **members}
    jobs: list[dict[str, Any]] = post(http, f"/v1/executors/{executor}/claim", body)["jobs"]
    return jobs


def events(server: Server) -> list[str]:
    """What the server told of its disk."""
    told = [event["event"] for event in server.events() if event["event"].startswith("storage.")]
    assert all(before != after for before, after in pairwise(told))
    return told


def assert_intact(server: Server, kept: set[int]) -> None:
    """The file is sound and holds all these jobs; the server is down."""
    with sqlite3.connect(server.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert kept <= {row[0] for row in connection.execute("SELECT id FROM jobs")}
        counted = connection.execute("SELECT sum(count) FROM executor_counts").fetchone()
        assert counted == connection.execute("SELECT count(*) FROM jobs").fetchone()
    connection.close()


def test_full_disk_refuses_what_adds_and_serves_the_rest_until_there_is_room(disk):
    with running(disk) as (server, http):
        kept = {enqueue(http).json()["id"] for _ in range(60)}
        held = claim(http, 5)
        filler, added = fill_up(http, disk)
        kept |= added
        told = events(server)
        one = {"executor": "mail", "data": "x"}
        for _ in range(3):  # whatever was given up is no room for jobs
            assert enqueue(http, size=10).status_code == 507
            assert http.post("/v1/jobs/bulk", json={"jobs": [one] * 10}).status_code == 507
            assert http.patch(f"/v1/jobs/{held[0]['id']}", json={"data": "y" * 20_000}).status_code == 507
            time.sleep(0.5)  # room is looked for each second
        for path, members in [
            ("complete", {}),
            ("retry", {"delay": 3600, "error": ERROR}),
            ("discard", {"error": ERROR}),
            ("snooze", {"delay": 3600}),
            ("release", {}),
        ]:
            job = held.pop()
            post(http, f"/v1/jobs/{job['id']}/{path}", {"fence": job["fence"], **members})
        (job,) = claim(http)
        post(http, f"/v1/jobs/{job['id']}/heartbeat", {"fence": job["fence"]})
        (lost,) = claim(http, lease=1)
        until = time.monotonic() + PATIENCE_SECONDS
        while http.get(f"/v1/jobs/{lost['id']}").json()["status"] != "retryable":
            assert time.monotonic() < until
            time.sleep(0.1)  # its lease has to run out
        pruned = post(http, "/v1/jobs/prune", {"status": "discarded", "prune_by": {"max_length": 0}})
        assert pruned == {"deleted": 1}
        assert http.get("/readyz").status_code == 200
        assert events(server) == told
        filler.unlink()
        kept.add(enqueue_once_there_is_room(http))
        assert all(enqueue(http).status_code == 201 for _ in range(50))
        assert events(server) == [*told, "storage.freed"]
        discarded = {job_id for job_id in kept if http.get(f"/v1/jobs/{job_id}").status_code == 404}
        assert len(discarded) == 1
    assert_intact(server, kept - discarded)


def test_pruning_makes_room_on_a_disk_that_stays_full(disk):
    with running(disk) as (server, http):
        added = sorted(fill_up(http, disk, but_bytes=10 * MIB)[1])
        told = events(server)
        keep = len(added) // 4
        spec = {"status": "scheduled", "prune_by": {"max_length": keep}}
        assert post(http, "/v1/jobs/prune", spec) == {"deleted": len(added) - keep}
        kept = {enqueue_once_there_is_room(http)}
        # More than the log would have room for if it began anew as rarely as usual.
        for _ in range(50):
            answer = enqueue(http, size=100_000)
            assert answer.status_code == 201
            kept.add(answer.json()["id"])
        assert events(server) == [*told, "storage.freed"]
    assert_intact(server, kept | set(added[:keep]))


def test_every_job_of_a_full_disk_can_be_worked_off(disk):
    """Claims and completions of all jobs write several times what the reserve holds."""
    with running(disk) as (server, http):
        bulk = {"jobs": [{"executor": "mail", "data": "x" * 100}] * 2_000}
        added = {result["id"] for result in post(http, "/v1/jobs/bulk", bulk)["results"]}
        added |= fill_up(http, disk)[1]
        done: set[int] = set()
        with connect(
            f"{server.url.replace('http', 'ws', 1)}/v1/executors/mail/subscribe?prefetch=20", proxy=None
        ) as socket:
            while len(done) < len(added):
                message = json.loads(socket.recv(PATIENCE_SECONDS))
                if message["type"] == "job":
                    job = message["job"]
                    reply = {"type": "complete", "id": job["id"], "fence": job["fence"], "ref": "r"}
                    socket.send(json.dumps(reply))
                elif message["type"] == "result":
                    assert message["ok"], message
                    done.add(message["id"])
        assert done == added
        assert events(server)[-1] == "storage.filled"
    assert_intact(server, done)


def test_server_killed_on_a_full_disk_begins_again_and_takes_acknowledgements(disk):
    with running(disk) as (server, http):
        kept = {enqueue(http).json()["id"] for _ in range(60)}
        held = claim(http, 20)
        filler, added = fill_up(http, disk)
        kept |= added
        for job in held[:10]:
            post(http, f"/v1/jobs/{job['id']}/complete", {"fence": job["fence"]})
        server.kill()
        server.start()
        kept |= set(enqueue_until_full(http))
        for job in held[10:]:
            post(http, f"/v1/jobs/{job['id']}/complete", {"fence": job["fence"]})
        for job in held:
            again = post(http, f"/v1/jobs/{job['id']}/complete", {"fence": job["fence"]})
            assert again["duplicate"]
        filler.unlink()
        kept.add(enqueue_once_there_is_room(http))
    assert_intact(server, kept)


def test_without_a_reserve_a_full_disk_is_507_and_no_harm(disk):
    with running(disk, reserve_bytes=0) as (server, http):
        kept = {enqueue(http).json()["id"]}
        filler = fill(disk)
        kept |= set(enqueue_until_full(http))
        filler.unlink()
        kept.add(enqueue_once_there_is_room(http))
        assert not (disk / "jobs.db.reserve").exists()
    assert_intact(server, kept)
