"""`rexecutor work` as a process."""

import json
import signal
import subprocess

import pytest

from rexecutor_client.job import EnqueuableJob, JobStatus
from tests.client.cli.command import COMMAND
from tests.end_to_end.server import environment, wait_until

MODULE = """
import asyncio
import time
from rexecutor_client.execution import executor

@executor("{name}")
async def send(job):
    if job.data == "fail":
        raise ValueError("\\x1b[31mred")
    if job.data == "long":
        await asyncio.sleep(0.5)
    return None

@executor("{name}-swallows")
async def swallow(job):
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass

@executor("{name}-blocks")
def block(job):
    time.sleep(60)
"""


@pytest.fixture
def work(server, tmp_path, executor):
    """Starts a worker; it is gone at the end."""
    (tmp_path / "my_app.py").write_text(MODULE.format(name=executor))
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "work", *arguments],
            cwd=tmp_path,
            env=environment(url=server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_is_told_to_stop_ends_what_it_runs_and_exits_with_0(work, client, executor, number):
    job_id = client.enqueue(EnqueuableJob(executor=executor, data="long")).id
    process = work("my_app:send")
    wait_until(lambda: client.get_job(job_id).status is JobStatus.EXECUTING)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert client.get_job(job_id).status is JobStatus.COMPLETE
    assert f"works for {executor}" in err
    assert err.splitlines()[-1].endswith("stopped: 1 done, 0 failed")


def test_second_signal_ends_the_worker_at_once_whatever_blocks_its_threads(work, client, executor):
    job_id = client.enqueue(EnqueuableJob(executor=f"{executor}-blocks")).id
    process = work("my_app:block")
    wait_until(lambda: client.get_job(job_id).status is JobStatus.EXECUTING)
    process.terminate()
    while "stopping: no more jobs" not in process.stderr.readline():
        pass
    process.terminate()
    assert process.wait(5) == 0
    assert client.get_job(job_id).status is JobStatus.EXECUTING


def test_worker_ends_whatever_a_function_swallows(work, client, executor):
    job_id = client.enqueue(EnqueuableJob(executor=f"{executor}-swallows")).id
    process = work("my_app:swallow", "--drain-seconds", "0.1")
    wait_until(lambda: client.get_job(job_id).status is JobStatus.EXECUTING)
    process.terminate()
    assert process.wait(15) == 0
    assert client.get_job(job_id).errors[0].error_type == "cancelled"


def test_worker_tells_how_it_does_as_json(work, client, executor):
    jobs = client.enqueue_many([EnqueuableJob(executor=executor, data=data) for data in (1, "fail")])
    process = work("my_app", "--json", "--quiet", "--concurrency", "3", "--name", "ada")
    wait_until(lambda: client.get_job(jobs[0].id).status is JobStatus.COMPLETE)
    wait_until(lambda: client.get_job(jobs[1].id).status is JobStatus.RETRYABLE)
    process.terminate()
    out, err = process.communicate(timeout=20)
    told = json.loads(out.splitlines()[-1])
    assert (told["name"], told["done"], told["failed"], told["running"]) == ("ada", 1, 1, 0)
    assert told["executors"][0]["executor"] == executor
    assert "\x1b" not in err
    assert client.get_job(jobs[0].id).attempted_by == ["ada"]


@pytest.mark.parametrize(
    "arguments", [("my_app:missing",), ("no_such_app",), ("my_app", "--concurrency", "0")], ids=" ".join
)
def test_worker_without_executors_is_wrong_usage(work, arguments):
    out, err = (process := work(*arguments)).communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert len(err.splitlines()) == 1
