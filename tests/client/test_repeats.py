"""A call without an answer is made again, and nothing is done twice."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from rexecutor_client import AsyncClient, Client, EnqueuableJob, ExecutionError, JobStatus, Where, errors

pytestmark = pytest.mark.timeout(60)

FAILURE = ExecutionError("panic", "it did not work")
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b'Content-Length: 30\r\n\r\n{"type":"/problems/not-ready"}'
)
FLOODED = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b'Content-Length: 38\r\n\r\n{"type":"/problems/too-many-requests"}'
)


class Between:
    """Passes each request on, on a connection of its own; the first ``times`` answers it replaces, or loses."""

    def __init__(
        self, target: int, *, times: int = 1, answer: bytes = b"", reaches: bool = True, holds: bool = False
    ) -> None:
        self.requests = 0
        self._holds = holds
        self._target = target
        self._left = times
        self._answer = answer
        self._reaches = reaches

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            request = head + await reader.readexactly(sum(int(line.split(b":")[1]) for line in lengths))
            self.requests += 1
            spoiled, self._left = self._left > 0, self._left - 1
            answer = b"" if spoiled and not self._reaches else await self._ask(request)
            if spoiled and self._holds:
                await reader.read()
            writer.write(self._answer if spoiled else answer)
            await writer.drain()
        writer.close()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        writer.write(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
def between(served) -> Callable[..., Between]:
    def make(**options: object) -> Between:
        return Between(int(served.settings["port"]), **options)

    return make


async def stored(url: str) -> int:
    async with AsyncClient(url) as client:
        return len([job async for job in client.jobs(Where.everything())])


async def test_enqueue_whose_answer_is_lost_is_stored_once(served, between):
    proxy = between(times=2)
    async with proxy.running() as url, AsyncClient(url) as client:
        enqueued = await client.enqueue(EnqueuableJob(executor="mail"))
    assert proxy.requests == 3
    assert enqueued.outcome == "inserted"
    assert await stored(served.url) == 1


async def test_sync_client_repeats_too(served, between):
    proxy = between()
    async with proxy.running() as url:
        with Client(url) as client:
            jobs = [EnqueuableJob(executor="mail")] * 3
            await asyncio.to_thread(client.enqueue_many, jobs)
    assert proxy.requests == 2
    assert await stored(served.url) == 3


@pytest.mark.parametrize("answer", [BUSY, FLOODED], ids=["503", "429"])
async def test_pause_is_as_long_as_the_service_asks(served, between, answer):
    proxy = between(answer=answer, reaches=False)
    async with proxy.running() as url, AsyncClient(url) as client:
        began_at = time.monotonic()
        await client.enqueue(EnqueuableJob(executor="mail"))
        assert time.monotonic() - began_at >= 1
    assert proxy.requests == 2


async def test_fenced_mark_is_made_again_and_is_a_duplicate(served, between):
    proxy = between()
    async with AsyncClient(served.url) as direct, proxy.running() as url, AsyncClient(url) as client:
        await direct.enqueue(EnqueuableJob(executor="mail"))
        (job,) = await direct.claim_jobs("mail")
        ack = await client.mark_job_retryable(job.id, timedelta(hours=1), FAILURE, fence=job.fence)
        assert ack.duplicate
        assert (await direct.get_job(job.id)).error_count == 1
    assert proxy.requests == 2


@pytest.mark.parametrize("verb", ["retry", "snooze"])
async def test_unfenced_mark_that_would_count_twice_is_left_to_the_caller(served, between, verb):
    proxy = between()
    async with AsyncClient(served.url) as direct, proxy.running() as url, AsyncClient(url) as client:
        enqueued = await direct.enqueue(EnqueuableJob(executor="mail"))
        await direct.claim_jobs("mail")
        mark, reason = (client.mark_job_retryable, [FAILURE]) if verb == "retry" else (client.mark_job_snoozed, [])
        with pytest.raises(errors.ServiceUnreachable) as failure:
            await mark(enqueued.id, timedelta(hours=1), *reason)
        assert failure.value.was_sent
        job = await direct.get_job(enqueued.id)
        assert job.status in (JobStatus.RETRYABLE, JobStatus.SCHEDULED)
        assert job.error_count == (verb == "retry")
    assert proxy.requests == 1


async def test_gives_up_after_its_time(between):
    proxy = between(times=1_000_000, reaches=False)
    async with proxy.running() as url, AsyncClient(url, retry_seconds=0.5) as client:
        began_at = time.monotonic()
        with pytest.raises(errors.ServiceUnreachable):
            await client.enqueue(EnqueuableJob(executor="mail"))
        assert time.monotonic() - began_at < 10
    assert proxy.requests > 1


async def test_server_that_is_silent_is_left_and_asked_again(served, between):
    proxy = between(holds=True)
    async with AsyncClient(served.url) as direct, proxy.running() as url, AsyncClient(url, timeout=0.5) as client:
        enqueued = await client.enqueue(EnqueuableJob(executor="mail"))
        assert await stored(served.url) == 1
        assert (await direct.get_job(enqueued.id)).status == "scheduled"
    assert proxy.requests == 2


async def test_connection_that_the_server_closed_meanwhile_fails_no_call(served):
    """Kept connections are gone after a restart; the next call finds that out by itself."""
    async with AsyncClient(served.url) as client:
        await client.enqueue(EnqueuableJob(executor="mail"))
        await asyncio.to_thread(served.stop)
        await asyncio.to_thread(served.start)
        await client.enqueue(EnqueuableJob(executor="mail"))
        assert len([job async for job in client.jobs(Where.everything())]) == 2


async def test_enqueue_waits_for_a_server_that_is_restarted(served):
    async with AsyncClient(served.url) as client:
        await asyncio.to_thread(served.stop)
        enqueuing = asyncio.create_task(client.enqueue(EnqueuableJob(executor="mail")))
        await asyncio.sleep(0.3)
        assert not enqueuing.done()
        await asyncio.to_thread(served.start)
        assert (await enqueuing).outcome == "inserted"
