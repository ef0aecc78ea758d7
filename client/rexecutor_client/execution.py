"""Executors: functions and classes that run the jobs of one name, and how they want them run."""

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Generic, TypeAlias, cast, get_args, get_origin, get_type_hints

from msgspec import UNSET

from .backoff import DEFAULT, Backoff
from .blocking import Threads
from .cpu_bound import Processes
from .job import Data, EnqueuableJob, ExecutionError, Job, Metadata
from .payload import Undecodable, decode
from .recorded import error_of, recorded
from .results import Cancel, Discard, Done, Result, Retry, Snooze
from .uniqueness import UniquenessCriteria

Function: TypeAlias = Callable[[Job[Any, Any]], Awaitable[Result | None] | Result | None]

_DONE = Done()

_log = logging.getLogger("rexecutor")


class Executor(Generic[Data, Metadata]):
    """Runs the jobs of one name. Subclass it with a ``name`` and an ``execute``, or put :func:`executor` on a function.

    ``execute`` may be a coroutine function; else it runs in a thread, or with ``cpu_bound`` in a process of its own.
    What its parameter is annotated with, as ``Job[Email]``, is what ``data`` (and ``metadata``) are decoded to.
    """

    name: str
    max_attempts: ClassVar[int | None] = None
    """Of its jobs, unless they say otherwise; the service's default is 5."""
    max_concurrency: ClassVar[int | None] = None
    """How many of its jobs one worker runs at once, at most; one for each processor if they are ``cpu_bound``."""
    backoff: ClassVar[Backoff] = DEFAULT
    timeout: ClassVar[timedelta | None] = None
    """After it an execution has failed: a coroutine is cancelled, a process ended, a thread goes on unheard."""
    uniqueness_criteria: ClassVar[UniquenessCriteria | None] = None
    priority: ClassVar[int | None] = None
    tags: ClassVar[Sequence[str]] = ()
    cpu_bound: ClassVar[bool] = False

    _threads: Threads | None = None
    _processes: Processes | None = None
    _kinds: tuple[Any, Any] | None = None

    def execute(self, job: Job[Data, Metadata]) -> Awaitable[Result | None] | Result | None:
        """Do the work of a job."""
        raise NotImplementedError

    @property
    def function(self) -> Function:
        """What is called with a job."""
        return cast("Function", self.execute)

    @property
    def most_at_once(self) -> int | None:
        """How many of its jobs one worker runs at once; None if only the worker's own limit counts."""
        return self.max_concurrency or ((os.cpu_count() or 1) if self.cpu_bound else None)

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
            return self.failed(job, recorded(str(error), "undecodable"))
        except Exception as error:  # noqa: BLE001 - such as an annotation that names nothing
            return self.failed(job, error_of(error))
        try:
            if self.timeout is None:
                returned = await self._call(decoded)
            else:
                returned = await self._call_in_time(decoded, self.timeout)
            return self._result_of(job, returned)
        except _OutOfTime:
            return self.failed(job, ExecutionError("timeout", f"not done within {self.timeout}"))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this call was cancelled, but something that the function waited for.
            return self.failed(job, error_of(error))
        except SystemExit as error:
            return self.failed(job, ExecutionError("panic", repr(error)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the panic of an extension written in Rust is no Exception
            return self.failed(job, error_of(error))

    def failed(self, job: Job[Any, Any], error: ExecutionError, asked: Retry | None = None) -> Result:
        """Return what a failure comes to: another attempt after the backoff, or a discard when none is left."""
        if job.is_last_attempt:
            return Discard(error)
        after = None if asked is None else asked.after
        return Retry(self._delay(job.attempt) if after is None else after, error)

    def close(self) -> None:
        """End the threads or processes in which jobs ran; a thread that still runs is not waited for."""
        if self._threads is not None:
            self._threads.close()
            self._threads = None
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def _result_of(self, job: Job[Any, Any], returned: Any) -> Result:
        match returned:
            case None:
                return _DONE
            case Retry():
                return self.failed(job, recorded(returned.error, "retry"), returned)
            case Done() | Snooze() | Cancel() | Discard():
                return returned
            case ExecutionError():
                return self.failed(job, returned)
            case _:
                raise TypeError(f"the function returned a {type(returned).__name__}, neither None nor a result")

    def _delay(self, attempt: int) -> timedelta:
        try:
            return self.backoff.delay(attempt)
        except Exception:  # noqa: BLE001 - it is the user's
            _log.exception("%s: its backoff failed, the usual one is taken", self.name)
            return DEFAULT.delay(attempt)

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

    async def _call_in_time(self, job: Job[Data, Metadata], limited: timedelta) -> Any:
        job.deadline = datetime.now(UTC) + limited
        limit = asyncio.timeout(limited.total_seconds())
        try:
            async with limit:
                return await self._call(job)
        except TimeoutError as error:
            if limit.expired():
                raise _OutOfTime from error
            raise

    async def _call(self, job: Job[Data, Metadata]) -> Any:
        function = self.function
        if self.cpu_bound:
            self._processes = self._processes or Processes(self.most_at_once or 1)
            return await self._processes.call(self, function, job)
        if inspect.iscoroutinefunction(function):
            return await function(job)
        self._threads = self._threads or Threads(f"executor-{self.name}")
        returned = await self._threads.call(function, job)
        # A wrapper that is no coroutine function may be around one.
        return await returned if inspect.isawaitable(returned) else returned


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
