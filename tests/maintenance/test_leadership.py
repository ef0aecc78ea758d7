"""Of many servers over one PostgreSQL one leads, and nothing that a former leader does late takes effect."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.domain.leadership import Lead
from app.store.dialects.base import Dialect
from app.store.dialects.postgres.leadership import STILL_LEADS
from tests.end_to_end.server import ROOT, environment, wait_until
from tests.maintenance.servers import running_dialect
from tests.postgres import empty, run
from tests.services import running_service

TERM_SECONDS = 2.0
NEVER = 3600.0
SEEKERS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%INSERT INTO leaders%' AND pid <> pg_backend_pid()"
PATIENCE_SECONDS = 60
"""For a leader that stalled within a transaction: the database ends that first."""


@pytest.fixture
def url(postgres_database) -> str:
    empty(postgres_database)
    return postgres_database


@pytest.fixture
async def servers(url) -> AsyncIterator[tuple[Dialect, Dialect]]:
    async with running_dialect(url) as one, running_dialect(url) as other:
        yield one, other


def leader(url: str) -> dict[str, Any]:
    (row,) = run(url, "SELECT holder, term, expires_at FROM leaders")
    return dict(row)


def end_term(url: str) -> None:
    run(url, "UPDATE leaders SET expires_at = 0")


def keep_an_answer_that_has_expired(url: str) -> None:
    run(url, "INSERT INTO idempotency_keys (scope, key, body_hash, expires_at, answer) VALUES ('s', 'k', 'h', 1, '[]')")


def is_answer_kept(url: str) -> bool:
    return bool(run(url, "SELECT 1 FROM idempotency_keys"))


async def test_of_many_that_ask_at_once_one_leads(servers):
    leads = await asyncio.gather(*(server.lead(30) for server in servers * 5))
    assert sorted({lead.term for lead in leads}, key=str) == [1, None]
    assert all(29 < lead.seconds <= 30 for lead in leads if lead.term)
    for server in servers:
        again = await server.lead(30)
        assert (again.term is None) or again.term == 1
        assert 29 < again.seconds <= 30


async def test_leader_that_renews_keeps_its_term_though_it_renews_late(servers, url):
    assert (await servers[0].lead(30)).term == 1
    end_term(url)
    assert await servers[0].sweep(1) == 0, "nobody else has led"
    assert await servers[0].lead(30) == Lead(1, 30)


async def test_another_leads_once_the_term_is_over_and_no_sooner(servers, url):
    await servers[0].lead(30)
    assert (await servers[1].lead(30)).term is None
    end_term(url)
    assert await servers[1].lead(30) == Lead(2, 30)
    assert (await servers[0].lead(30)).term is None


async def test_what_a_former_leader_does_is_refused(servers, url):
    await servers[0].lead(30)
    end_term(url)
    await servers[1].lead(30)
    keep_an_answer_that_has_expired(url)
    assert await servers[0].sweep(1) is None
    assert is_answer_kept(url)
    assert await servers[1].sweep(2) == 1
    assert not is_answer_kept(url)


async def test_nobody_begins_to_lead_while_a_leader_acts(servers, url):
    await servers[0].lead(30)
    end_term(url)
    acting = await asyncpg.connect(url)
    try:
        async with acting.transaction():
            assert await acting.fetchval(STILL_LEADS, 1)
            seeking = asyncio.create_task(servers[1].lead(30))
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await acting.fetch(waiting):
                    assert not seeking.done()
        assert (await seeking).term == 2
    finally:
        await acting.close()


async def test_leader_forgets_notices_for_servers_that_are_no_more(servers, url):
    run(url, "INSERT INTO notices (owner, lease_id, inserted_at) VALUES ('gone', 1, 1)")
    await servers[0].lead(30)
    assert await servers[0].sweep(1) == 1
    assert run(url, "SELECT 1 FROM notices") == []


async def test_services_have_one_leader(tmp_path, url):
    async with running_service(tmp_path, database_url=url) as one, running_service(tmp_path, database_url=url) as other:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not run(url, "SELECT 1 FROM leaders"):
                await asyncio.sleep(0.05)  # until their loops have begun
        terms = [(await service.lead(30)).term for service in (one, other)]
        assert sorted(terms, key=str) == [1, None]


async def test_leader_that_stops_lets_another_lead_at_once(tmp_path, servers, url):
    async with running_service(tmp_path, database_url=url):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not run(url, "SELECT 1 FROM leaders"):
                await asyncio.sleep(0.05)
        assert (await servers[0].lead(30)).term is None
    assert await servers[0].lead(30) == Lead(2, 30)


class LeadingProcess:
    """One that leads when it can."""

    def __init__(self, folder: Path, name: str, url: str, *, sweep_seconds: float) -> None:
        self._log = folder / f"{name}.log"
        arguments = [url, "--term-seconds", str(TERM_SECONDS), "--sweep-seconds", str(sweep_seconds)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.maintenance.leading_process", *arguments],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def has_told(self, event: str) -> bool:
        return any(json.loads(line)["event"] == event for line in self._log.read_text().splitlines())


@contextmanager
def leading(*args: Any, **options: Any) -> Iterator[LeadingProcess]:
    process = LeadingProcess(*args, **options)
    try:
        yield process
    finally:
        process.end()


def wait_for(process: LeadingProcess, event: str) -> None:
    wait_until(lambda: process.has_told(event), seconds=PATIENCE_SECONDS)


def test_another_leads_within_the_term_when_the_leader_is_killed(tmp_path, url):
    with leading(tmp_path, "one", url, sweep_seconds=NEVER) as one:
        wait_for(one, "leader.elected")
        with leading(tmp_path, "other", url, sweep_seconds=NEVER) as other:
            wait_until(lambda: run(url, SEEKERS)[0][0] == 2)
            one.signal(signal.SIGKILL)
            killed_at = time.monotonic()
            wait_for(other, "leader.elected")
            print(f"another led {time.monotonic() - killed_at:.1f} s after the kill, the term is {TERM_SECONDS} s")
            # Two seconds for a busy machine.
            assert time.monotonic() - killed_at < TERM_SECONDS + 2
            assert leader(url)["term"] == 2


def test_late_tick_of_a_leader_that_stalled_beyond_its_term_is_refused(tmp_path, url):
    """It goes on where it stood, and sweeps before it asks whether it still leads: it has just renewed."""
    with leading(tmp_path, "stalled", url, sweep_seconds=0.05) as stalled:
        wait_for(stalled, "leader.elected")
        with leading(tmp_path, "other", url, sweep_seconds=NEVER) as other:
            before = leader(url)["expires_at"]
            wait_until(lambda: leader(url)["expires_at"] != before)
            stalled.signal(signal.SIGSTOP)
            wait_for(other, "leader.elected")
            keep_an_answer_that_has_expired(url)
            stalled.signal(signal.SIGCONT)
            wait_until(lambda: stalled.has_told("sweep.refused") or not is_answer_kept(url), seconds=PATIENCE_SECONDS)
            assert is_answer_kept(url)
            wait_for(stalled, "leader.lost")
