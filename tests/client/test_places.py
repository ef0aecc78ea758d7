"""Where functions run, in the event loop, a thread or a process; and how each is ended when its time is over."""

import asyncio
import contextvars
import os
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rexecutor_client import Done, Job, Retry, Snooze, executor
from tests.client import busy
from tests.client.handed_out import handed_out, recorded

pytestmark = pytest.mark.timeout(60)

SHORT = timedelta(seconds=0.05)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
SPINNING = "from tests.client.handed_out import handed_out; asyncio.run(spin.run(handed_out({path!r})))"


# How long it may take.


async def test_coroutine_is_cancelled_at_its_timeout():
    ended = asyncio.Event()

    @executor("mail", timeout=SHORT)
    async def wait(_: Job) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    error = recorded(await wait.run(handed_out()))
    assert error.error_type == "timeout"
    assert ended.is_set()


async def test_timeout_within_the_function_is_its_own_failure():
    @executor("mail", timeout=timedelta(seconds=30))
    async def wait(_: Job) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    assert recorded(await wait.run(handed_out())).error_type == "TimeoutError"


async def test_blocking_function_is_given_up_at_its_timeout_and_holds_up_no_later_one():
    go_on = threading.Event()

    @executor("mail", timeout=SHORT, max_concurrency=1)
    def wait(job: Job) -> None:
        if job.data == "blocks":
            go_on.wait(30)

    try:
        assert recorded(await wait.run(handed_out("blocks"))).error_type == "timeout"
        assert await wait.run(handed_out("does not")) == Done()
    finally:
        go_on.set()
        wait.close()


async def test_deadline_tells_when_the_timeout_is_over():
    deadlines = []

    @executor("mail", timeout=timedelta(seconds=30))
    async def note(job: Job) -> None:
        deadlines.append(job.deadline)

    before = datetime.now(UTC)
    await note.run(handed_out())
    assert timedelta(seconds=30) <= deadlines[0] - before < timedelta(seconds=40)
    assert handed_out().deadline is None


# In a thread.


async def test_blocking_functions_run_at_once_in_threads_that_are_used_again():
    both = threading.Barrier(2)

    @executor("mail")
    def meet(_: Job) -> None:
        both.wait(10)

    # Others may end meanwhile.
    before = {*threading.enumerate()}
    for _ in range(3):
        assert await asyncio.gather(meet.run(handed_out()), meet.run(handed_out())) == [Done(), Done()]
    assert len({*threading.enumerate()} - before) == 2
    meet.close()
    async with asyncio.timeout(10):
        while {*threading.enumerate()} - before:
            await asyncio.sleep(0.01)


async def test_thread_sees_the_context_and_ends_with_the_program():
    where = contextvars.ContextVar("where", default="nowhere")
    seen = []

    @executor("mail")
    def look(_: Job) -> None:
        seen.extend([where.get(), threading.current_thread().daemon])

    where.set("here")
    await look.run(handed_out())
    look.close()
    assert seen == ["here", True]


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(1), ValueError("no")], ids=repr)
async def test_whatever_a_thread_raises_is_a_failure(error):
    """No future takes a StopIteration, so that one was waited for ever."""

    @executor("mail")
    def fail(_: Job) -> None:
        raise error

    result = await asyncio.wait_for(fail.run(handed_out()), 10)
    fail.close()
    assert isinstance(result, Retry)


async def test_wrapper_around_a_coroutine_function_is_awaited():
    async def wait() -> Snooze:
        await asyncio.sleep(0)
        return Snooze(LATER)

    @executor("mail")
    def wrapped(_: Job) -> Any:
        return wait()

    assert await wrapped.run(handed_out()) == Snooze(LATER)
    wrapped.close()


# In a process.


async def test_processes_execute_functions_coroutines_and_methods():
    assert await busy.add.run(handed_out([1, 2])) == Snooze(timedelta(seconds=3))
    assert await busy.wait.run(handed_out()) == Snooze(timedelta(seconds=5))
    assert await busy.multiplies.run(handed_out([2, 3])) == Snooze(timedelta(seconds=6))
    error = recorded(await busy.fail.run(handed_out()))
    assert error.error_type == "TwoReasons"
    assert "busy.py" in error.message
    for each in (busy.add, busy.wait, busy.multiplies, busy.fail):
        each.close()


async def test_process_that_dies_is_a_failure_and_another_takes_its_place():
    for _ in range(2):
        assert recorded(await busy.die.run(handed_out())).error_type == "BrokenProcessPool"
    busy.die.close()


async def test_process_that_dies_while_it_has_nothing_to_do_is_no_failure_of_the_next_job(tmp_path):
    told = tmp_path / "process"
    assert await busy.tell.run(handed_out(str(told))) == Done()
    first = int(told.read_text())
    os.kill(first, signal.SIGKILL)
    await end_of(first)
    assert await busy.tell.run(handed_out(str(told))) == Done()
    assert int(told.read_text()) != first
    busy.tell.close()


async def test_process_stays_though_a_result_cannot_leave_it(tmp_path):
    told = tmp_path / "processes"
    for _ in range(3):
        assert "pickle" in recorded(await busy.unpicklable.run(handed_out(str(told)))).message
    assert len({*told.read_text().split()}) == 1
    busy.unpicklable.close()


async def test_timeout_shorter_than_a_process_takes_to_begin_is_met_once_it_has_begun():
    async with asyncio.timeout(30):
        while await busy.hurried.run(handed_out()) != Done():
            pass
    busy.hurried.close()


async def test_process_is_ended_when_its_job_is_given_up(tmp_path):
    told = tmp_path / "process"
    running = asyncio.create_task(busy.spin.run(handed_out(str(told))))
    process_id = await told_in(told)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await end_of(process_id)
    busy.spin.close()


async def test_process_ends_with_a_worker_that_is_killed_and_not_by_the_signals_that_tell_it_to_stop(tmp_path):
    told = tmp_path / "process"
    program = f"import asyncio; from tests.client.busy import spin; {SPINNING.format(path=str(told))}"
    # To its standard error multiprocessing tells what the kill left behind.
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT, stderr=DEVNULL)
    process_id = await told_in(told)
    os.kill(process_id, signal.SIGINT)
    os.kill(process_id, signal.SIGTERM)
    await asyncio.sleep(0.2)  # in which it would have ended
    assert is_alive(process_id)
    worker.kill()
    await worker.wait()
    await end_of(process_id)


async def told_in(path: Path) -> int:
    """The process that the function tells of."""
    async with asyncio.timeout(30):
        while not (path.exists() and path.read_text()):
            await asyncio.sleep(0.01)
    return int(path.read_text())


async def end_of(process_id: int) -> None:
    async with asyncio.timeout(10):
        while is_alive(process_id):
            await asyncio.sleep(0.01)


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_function_that_a_process_cannot_find_is_a_failure():
    @executor("mail", cpu_bound=True)
    def inner(_: Job) -> None:
        """Never called."""

    assert "no function of a module" in recorded(await inner.run(handed_out())).message
