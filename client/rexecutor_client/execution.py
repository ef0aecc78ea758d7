"""Executors: functions and classes that run the jobs of one name, and how they want them run."""

import asyncio
import contextvars
import inspect
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from concurrent.futures import Executor as Pool
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeAlias, cast, get_args, get_origin, get_type_hints

from msgspec import UNSET

from .backoff import DEFAULT, Backoff
from .cpu_bound import call_in_process, new_pool
from .job import Data, EnqueuableJob, ExecutionError, Job, Metadata
from .payload import Undecodable, decode
from .results import Cancel, Discard, Done, Reason, Result, Retry
from .uniqueness import UniquenessCriteria

Function: TypeAlias = Callable[[Job[Any, Any]], Awaitable[Result | None] | Result | None]

_MAX_THREADS = 256
_MESSAGE_CHARACTERS = 16_000
_DONE = Done()


class Executor(Generic[Data, Metadata]):
    """Runs the jobs of one name. Subclass it with a ``name`` and an ``execute``, or put :func:`executor` on a function.

    ``execute`` may be a coroutine function; else it runs in a thread, or with ``cpu_bound`` in a process of its own.
    What its parameter is annotated with, as ``Job[Email]``, is what ``data`` (and ``metadata``) are decoded to.
    """

    name: str
    max_attempts: ClassVar[int | None] = None
    """Of its jobs, unless they say otherwise; the service's default is 5."""
    max_concurrency: ClassVar[int | None] = None
    """How many of its jobs one worker runs at once, at most."""
    backoff: ClassVar[Backoff] = DEFAULT
    timeout: ClassVar[timedelta | None] = None
    """After it an execution has failed: a coroutine is cancelled, a thread or process goes on unheard."""
    uniqueness_criteria: ClassVar[UniquenessCriteria | None] = None
    priority: ClassVar[int | None] = None
    tags: ClassVar[Sequence[str]] = ()
    cpu_bound: ClassVar[bool] = False

    _pool: Pool | None = None
    _kinds: tuple[Any, Any] | None = None

    def execute(self, job: Job[Data, Metadata]) -> Awaitable[Result | None] | Result | None:
        """Do the work of a job."""
        raise NotImplementedError

    @property
    def function(self) -> Function:
        """What is called with a job."""
        return cast("Function", self.execute)

    def job(
        self,
        data: Data | None = None,
        *,
        metadata: Metadata | None = None,
        delay: timedelta | None = None,
        scheduled_at: datetime | None = None,
        priority: int | None = None,
        tags: Sequence[str] | None = None,
        max_attempts: int | None = None,
        uniqueness_criteria: UniquenessCriteria | None = None,
    ) -> EnqueuableJob:
        """Return a job of this executor, to be enqueued by a client; what is not given is as the executor says."""
        return EnqueuableJob(
            executor=self.name,
            data=data,
            metadata=metadata,
            delay=_or_unset(delay),
            scheduled_at=_or_unset(scheduled_at),
            priority=_or_unset(priority, self.priority),
            tags=_or_unset(None if tags is None else [*tags], [*self.tags] or None),
            max_attempts=_or_unset(max_attempts, self.max_attempts),
            uniqueness_criteria=_or_unset(uniqueness_criteria, self.uniqueness_criteria),
        )

    async def run(self, job: Job[Any, Any]) -> Result:
        """Execute a job as the service hands it out; whatever happens is a result.

        A failure on the last attempt is a discard. Only cancelling this call gets out of it.
        """
        try:
            decoded = self._decoded(job)
        except Undecodable as error:
            return self.failed(job, ExecutionError("undecodable", str(error)))
        except Exception as error:  # noqa: BLE001 - such as an annotation that names nothing
            return self.failed(job, _error_of(error))
        try:
            if self.timeout is None:
                result = await self._call(decoded)
            else:
                result = await self._call_in_time(decoded, self.timeout)
        except _OutOfTime:
            return self.failed(job, ExecutionError("timeout", f"not done within {self.timeout}"))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this call was cancelled, but something that the function waited for.
            return self.failed(job, _error_of(error))
        except BrokenExecutor as error:
            self.close()
            return self.failed(job, _error_of(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the job's result
            return self.failed(job, _error_of(error))
        if isinstance(result, Retry):
            return self.failed(job, _reason(result.error, "retry"), result)
        return _DONE if result is None else result

    def close(self) -> None:
        """End the threads or processes in which jobs ran; one that still runs is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _decoded(self, job: Job[Any, Any]) -> Job[Data, Metadata]:
        if self._kinds is None:
            self._kinds = _kinds_of(self)
        data, metadata = self._kinds
        # In place: whoever handed the job over goes on to tell it of a revoke.
        if data is not Any:
            job.data = decode(job.data, data)
        if metadata is not Any:
            job.metadata = decode(job.metadata, metadata)
        return job

    async def _call_in_time(self, job: Job[Data, Metadata], limited: timedelta) -> Result | None:
        job.deadline = datetime.now(UTC) + limited
        limit = asyncio.timeout(limited.total_seconds())
        try:
            async with limit:
                return await self._call(job)
        except TimeoutError as error:
            if limit.expired():
                raise _OutOfTime from error
            raise

    async def _call(self, job: Job[Data, Metadata]) -> Result | None:
        function = self.function
        if self.cpu_bound:
            self._pool = self._pool or new_pool(self.max_concurrency)
            return cast("Result | None", await call_in_process(self._pool, self, function, job))
        if inspect.iscoroutinefunction(function):
            return cast("Result | None", await function(job))
        self._pool = self._pool or ThreadPoolExecutor(
            self.max_concurrency or _MAX_THREADS, thread_name_prefix=f"executor-{self.name}"
        )
        context = contextvars.copy_context()
        running = asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, job)
        return cast("Result | None", await running)

    def failed(self, job: Job[Any, Any], error: ExecutionError, asked: Retry | None = None) -> Result:
        """Return what a failure comes to: another attempt after the backoff, or a discard when none is left."""
        if job.is_last_attempt:
            return Discard(error)
        after = None if asked is None else asked.after
        return Retry(self.backoff.delay(job.attempt) if after is None else after, error)


class FunctionExecutor(Executor[Data, Metadata]):
    """An executor made of a function, which it can still be called as."""

    def __init__(self, function: Function, name: str, **options: Any) -> None:
        """Take the function and the options of :func:`executor`."""
        self.name = name
        self._function = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__qualname__ = function.__qualname__
        for option, value in options.items():
            if value is not None:
                setattr(self, option, value)

    @property
    def function(self) -> Function:
        """The function."""
        return self._function

    def __call__(self, job: Job[Data, Metadata]) -> Any:
        """Call the bare function, as a unit test does."""
        return self._function(job)


def executor(
    name: str,
    *,
    max_attempts: int | None = None,
    max_concurrency: int | None = None,
    backoff: Backoff | None = None,
    timeout: timedelta | None = None,
    uniqueness_criteria: UniquenessCriteria | None = None,
    priority: int | None = None,
    tags: Sequence[str] | None = None,
    cpu_bound: bool | None = None,
) -> Callable[[Callable[[Job[Data, Metadata]], Any]], FunctionExecutor[Data, Metadata]]:
    """Make a function the executor of a name."""

    def make(function: Callable[[Job[Data, Metadata]], Any]) -> FunctionExecutor[Data, Metadata]:
        return FunctionExecutor(
            function,
            name,
            max_attempts=max_attempts,
            max_concurrency=max_concurrency,
            backoff=backoff,
            timeout=timeout,
            uniqueness_criteria=uniqueness_criteria,
            priority=priority,
            tags=tags,
            cpu_bound=cpu_bound,
        )

    return make


class _OutOfTime(Exception):
    """The executor's own timeout, not one that ran out inside of the function."""


def reason_of(result: Retry | Cancel | Discard) -> ExecutionError:
    """Return what is recorded of a result."""
    if isinstance(result, Retry):
        return _reason(result.error, "retry")
    return _reason(result.reason, "cancelled" if isinstance(result, Cancel) else "discarded")


def _reason(reason: Reason, error_type: str) -> ExecutionError:
    error = ExecutionError(error_type, reason) if isinstance(reason, str) else reason
    return ExecutionError(_sendable(error.error_type), _sendable(error.message))


def _sendable(text: str) -> str:
    """Return the text without halves of characters, as names of files may have them."""
    return text.encode(errors="replace").decode()


def _error_of(error: BaseException) -> ExecutionError:
    """Return the class of an exception, and its traceback: of a long one the end, where it happened."""
    text = "".join(traceback.format_exception(error)).strip()
    return ExecutionError(type(error).__name__, _sendable(text[-_MESSAGE_CHARACTERS:]))


def _kinds_of(executor: Executor[Any, Any]) -> tuple[Any, Any]:
    """Return the types of data and metadata: those of the function's parameter, else those of the class."""
    function = executor.function
    parameters = [*inspect.signature(function).parameters]
    hint = get_type_hints(function).get(parameters[0]) if parameters else None
    given = get_args(hint) if get_origin(hint) is Job else ()
    if not given:
        bases = (base for kind in type(executor).__mro__ for base in getattr(kind, "__orig_bases__", ()))
        given = next((get_args(base) for base in bases if get_origin(base) is Executor), ())
    kinds = [Any if type(kind).__name__ == "TypeVar" else kind for kind in given]
    data, metadata = [*kinds, Any, Any][:2]
    return data, metadata


def _or_unset(*values: Any) -> Any:
    return next((value for value in values if value is not None), UNSET)
