"""Whatever a function does with a job is a result; nothing leaves the job without one."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pydantic
import pytest

from rexecutor_client import (
    Cancel,
    Constant,
    Discard,
    Done,
    ExecutionError,
    Executor,
    Job,
    Retry,
    Snooze,
    UniquenessCriteria,
    executor,
)
from rexecutor_client.backoff import Backoff
from rexecutor_client.results import Result
from tests.client.handed_out import handed_out, recorded

pytestmark = pytest.mark.timeout(60)

SHORT = timedelta(seconds=0.05)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def raising(error: BaseException) -> Executor[Any, Any]:
    @executor("mail")
    async def fail(_: Job) -> None:
        raise error

    return fail


def returning(value: Any) -> Executor[Any, Any]:
    @executor("mail")
    async def give(_: Job) -> Any:
        return value

    return give


# What it says by returning and raising.


@pytest.mark.parametrize(
    "result",
    [Done(), Snooze(LATER), Snooze(timedelta(hours=1)), Cancel("no more"), Discard("of no use")],
    ids=lambda result: type(result).__name__,
)
async def test_result_is_what_the_function_returned(result):
    assert await returning(result).run(handed_out()) == result


async def test_nothing_returned_is_done():
    assert await returning(None).run(handed_out()) == Done()


@pytest.mark.parametrize("after", [timedelta(minutes=3), timedelta(0), LATER])
async def test_retry_waits_as_long_as_it_says(after):
    result = await returning(Retry(after, "busy")).run(handed_out())
    assert isinstance(result, Retry)
    assert (result.after, recorded(result)) == (after, ExecutionError("retry", "busy"))


async def test_retry_and_failure_wait_for_the_backoff_by_default():
    for asked in (returning(Retry()), raising(ValueError("no"))):
        asked.backoff = Constant(base=timedelta(minutes=7), jitter=0)
        result = await asked.run(handed_out(attempt=2))
        assert isinstance(result, Retry)
        assert result.after == timedelta(minutes=7)


@pytest.mark.parametrize("failing", [returning(Retry(error="busy")), raising(ValueError("no"))], ids=["retry", "raise"])
@pytest.mark.parametrize(("attempt", "kind"), [(4, Retry), (5, Discard), (6, Discard)])
async def test_failure_of_the_last_attempt_is_a_discard(failing, attempt, kind):
    assert isinstance(await failing.run(handed_out(attempt=attempt)), kind)


async def test_exception_is_recorded_by_its_class_and_the_end_of_its_traceback():
    error = recorded(await raising(ValueError("x" * 100_000 + " at \ud800 the end")).run(handed_out()))
    assert error.error_type == "ValueError"
    assert error.message.endswith(" at ? the end")
    assert len(error.message) < 20_000
    assert "test_execution.py" in recorded(await raising(KeyError("gone")).run(handed_out())).message


@pytest.mark.parametrize(
    "returned", ["done", 7, {}, Retry, object()], ids=["text", "number", "dict", "class", "object"]
)
async def test_anything_else_returned_is_a_failure(returned):
    error = recorded(await returning(returned).run(handed_out()))
    assert error.error_type == "TypeError"
    assert "neither None nor a result" in error.message


async def test_exit_is_a_panic_and_not_the_workers_end():
    assert recorded(await raising(SystemExit(2)).run(handed_out())).error_type == "panic"


class ExtensionPanicError(BaseException):
    """As extensions written in Rust raise it."""


async def test_panic_of_an_extension_is_a_failure():
    @executor("mail")
    async def send(_: Job) -> None:
        raise ExtensionPanicError("index out of bounds")

    @executor("mail")
    def send_blocking(_: Job) -> None:
        raise ExtensionPanicError("index out of bounds")

    for each in (send, send_blocking):
        result = await asyncio.wait_for(each.run(handed_out()), 10)
        assert isinstance(result, Retry)


async def test_generator_exit_that_a_function_raises_is_a_failure():
    assert recorded(await raising(GeneratorExit()).run(handed_out())).error_type == "GeneratorExit"


async def test_cancellation_from_within_is_a_failure_and_from_without_goes_through():
    assert recorded(await raising(asyncio.CancelledError()).run(handed_out())).error_type == "CancelledError"
    running = asyncio.create_task(returning_never().run(handed_out()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def returning_never() -> Executor[Any, Any]:
    @executor("mail")
    async def wait(_: Job) -> None:
        await asyncio.Event().wait()

    return wait


async def test_backoff_that_fails_is_replaced_by_the_usual_one():
    class Broken(Backoff, frozen=True):
        def _seconds(self, attempt: int) -> float:
            raise ZeroDivisionError

    failing = raising(ValueError("no"))
    failing.backoff = Broken()
    result = await failing.run(handed_out())
    assert isinstance(result, Retry)
    assert isinstance(result.after, timedelta)
    assert result.after > timedelta(seconds=3)


# What it takes.


class Struct(msgspec.Struct):
    to: str
    at: datetime | None = None


@dataclass
class Data:
    to: str
    at: datetime | None = None


class Model(pydantic.BaseModel):
    to: str
    at: datetime | None = None


@pytest.mark.parametrize("kind", [Struct, Data, Model])
async def test_data_and_metadata_are_decoded_to_what_the_parameter_says(kind):
    seen = []

    @executor("mail")
    async def look(job: Job[kind, list[kind]]) -> None:
        seen.extend([job.data, *job.metadata])

    json = {"to": "ada@example.org", "at": "2026-01-02T03:04:05Z"}
    assert await look.run(handed_out(json, metadata=[json])) == Done()
    assert seen == [kind(to="ada@example.org", at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))] * 2


async def test_data_without_a_type_is_json():
    seen = []

    @executor("mail")
    async def look(job: Job) -> None:
        seen.append(job.data)

    await look.run(handed_out({"any": ["thing", None]}))
    assert seen == [{"any": ["thing", None]}]


async def test_numbers_as_keys_come_back_as_numbers():
    @executor("mail")
    async def look(job: Job[dict[int, str]]) -> Result:
        return Cancel(job.data[7])

    assert await look.run(handed_out({"7": "seven"})) == Cancel("seven")


@pytest.mark.parametrize("data", [None, {}, {"to": 7}, "text", [1]], ids=repr)
@pytest.mark.parametrize(("attempt", "kind"), [(1, Retry), (5, Discard)])
async def test_undecodable_data_is_a_recorded_failure(data, attempt, kind):
    @executor("mail")
    async def look(_: Job[Struct]) -> None:
        raise AssertionError("was called")

    result = await look.run(handed_out(data, attempt=attempt))
    assert isinstance(result, kind)
    assert recorded(result).error_type == "undecodable"
    assert "is no Struct" in recorded(result).message


async def test_annotation_that_names_nothing_is_a_recorded_failure():
    @executor("mail")
    async def look(job: "Job[Nothing]") -> None:  # noqa: F821
        """Never called."""

    assert recorded(await look.run(handed_out())).error_type == "NameError"


# How it is defined.


class SendEmail(Executor[Struct, Data]):
    name = "email"
    max_attempts = 3
    tags = ("mail",)

    def __init__(self, sender: str) -> None:
        self._sender = sender

    async def execute(self, job: Job[Struct, Data]) -> Result:
        return Cancel(f"{self._sender} {job.data.to} {job.metadata.to}")


async def test_class_is_an_executor_with_what_it_was_made_of():
    sends = SendEmail("from")
    assert await sends.run(handed_out({"to": "a"}, metadata={"to": "b"})) == Cancel("from a b")


async def test_types_of_the_class_count_where_the_method_names_none():
    class Untyped(Executor[Struct]):
        name = "email"

        async def execute(self, job) -> Result:
            return Cancel(job.data.to)

    assert await Untyped().run(handed_out({"to": "a"})) == Cancel("a")


def test_job_of_an_executor_is_as_it_says_unless_told_otherwise():
    criteria = UniquenessCriteria(key="k")
    made = SendEmail("x").job(Struct("a"), delay=timedelta(minutes=5), uniqueness_criteria=criteria)
    assert (made.executor, made.max_attempts, made.tags) == ("email", 3, ["mail"])
    assert (made.delay, made.uniqueness_criteria, made.priority) == (timedelta(minutes=5), criteria, msgspec.UNSET)
    assert SendEmail("x").job(Struct("a"), tags=[], max_attempts=9).tags == []
    assert SendEmail("x").job(Struct("a"), tags=[], max_attempts=9).max_attempts == 9


async def test_decorated_function_is_still_a_function():
    @executor("mail")
    def send(job: Job) -> Any:
        return time.monotonic, job.data

    assert send(handed_out("a")) == (time.monotonic, "a")
