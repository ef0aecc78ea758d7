"""A service in a thread of the test's own process, on a database file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from ..async_client import AsyncClient
from ..errors import RexecutorError
from ..execution import Executor
from ..job import Job
from ..sync_client import Client
from ..where import Where
from .drain import MOST_JOBS, Drained, drain
from .enqueued import ANYTHING, Wanted, refused, told

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ServiceMissing(RexecutorError):
    """The server is not installed here."""


class _Served(Protocol):
    """What the server's package runs."""

    url: str

    def now(self) -> int:
        """Return the service's time, in microseconds since 1970."""

    def move_clock(self, by: timedelta) -> None:
        """Let time pass at once."""


class Clock:
    """The service's clock: the true one, ahead of it by as much as a test has moved it."""

    def __init__(self, served: _Served) -> None:
        """Move a service's clock."""
        self._served = served

    def now(self) -> datetime:
        """Return the service's time."""
        return _EPOCH + timedelta(microseconds=self._served.now())

    def move(self, by: timedelta) -> None:
        """Let so much time pass for the service at once: what falls due is handed out. Never back."""
        self._served.move_clock(by)

    def move_to(self, moment: datetime) -> None:
        """Let it be this time, an aware one that is still to come."""
        self.move(moment - self.now())


class ServiceForTests:
    """What a test has of its service: a client, its clock, what is enqueued there, and a way to run it."""

    def __init__(self, served: _Served, client: Client) -> None:
        """Wrap a service that runs."""
        self.url = served.url
        """For clients and workers of the program that is tested."""
        self.client = client
        self.clock = Clock(served)

    def enqueued(self, executor: Executor[Any, Any] | str | None = None, **wanted: Any) -> list[Job]:
        """Return the jobs that wait to run and are as wanted, oldest first; see :meth:`assert_enqueued`."""
        asked = Wanted(executor=executor, **wanted)
        return [job for job in self._waiting() if asked.fits(job)]

    def assert_enqueued(
        self,
        executor: Executor[Any, Any] | str | None = None,
        *,
        data: Any = ANYTHING,
        metadata: Any = ANYTHING,
        tags: Iterator[str] | list[str] | tuple[str, ...] = (),
        priority: int | None = None,
        max_attempts: int | None = None,
        scheduled_at: datetime | None = None,
        delay: timedelta | None = None,
        tolerance: timedelta = timedelta(seconds=1),
        count: int | None = None,
    ) -> list[Job]:
        """Fail unless a job waits to run that is as wanted, or exactly ``count``; return those that do.

        Of ``data`` and ``metadata`` that are objects only the given members are compared, of ``tags`` all given must be
        there; ``scheduled_at``, or ``delay`` from now, may be off by ``tolerance``.
        """
        wanted = Wanted(
            executor=executor,
            data=data,
            metadata=metadata,
            tags=tuple(tags),
            priority=priority,
            max_attempts=max_attempts,
            scheduled_at=scheduled_at if delay is None else self.clock.now() + delay,
            tolerance=tolerance,
        )
        waiting = self._waiting()
        fitting = [job for job in waiting if wanted.fits(job)]
        if len(fitting) != count if count is not None else not fitting:
            raise AssertionError(told(wanted, waiting, fitting, count))
        return fitting

    def refute_enqueued(self, executor: Executor[Any, Any] | str | None = None, **wanted: Any) -> None:
        """Fail if a job waits to run that is as given; see :meth:`assert_enqueued`."""
        fitting = self.enqueued(executor, **wanted)
        if fitting:
            raise AssertionError(refused(fitting))

    async def drain(
        self,
        *executors: Executor[Any, Any],
        with_scheduled: bool = False,
        raises: bool = False,
        most: int = MOST_JOBS,
    ) -> Drained:
        """Run all jobs of these executors that are due, and what they enqueue, here and now; tell what became of them.

        ``with_scheduled`` also those to come: the clock moves on to each. With ``raises`` a failure raises
        ExecutionFailed after it was recorded. More than ``most`` jobs are taken for one that never ends.
        """
        async with AsyncClient(self.url) as client:
            move_to = self.clock.move_to if with_scheduled else None
            return await drain(client, executors, move_to=move_to, raises=raises, most=most)

    def _waiting(self) -> list[Job]:
        waiting = Where.status_equals("scheduled") | Where.status_equals("retryable")
        return [*self.client.jobs(waiting, page_size=1_000)][::-1]


@contextmanager
def service_for_tests(database: Path) -> Iterator[ServiceForTests]:
    """Run a service on a database file while the context lasts. Raises ServiceMissing."""
    found = entry_points(group="rexecutor.testing", name="service")
    if not found:
        raise ServiceMissing("install rexecutor-client[testing]: tests run the service itself, and it is not here")
    (service,) = found
    with service.load()(database).running() as served, Client(served.url) as client:
        yield ServiceForTests(served, client)
