"""PostgreSQL stands still or is away for longer than a lease: the living could not renew, and keep their jobs."""

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import make_url

from app.backend.contract import Subscription
from tests.builders import new_job
from tests.chaos.proxy import Proxy
from tests.delivery.streams import subscribed, take
from tests.postgres import empty
from tests.services import running_service

LEASE_SECONDS = 1


async def live(worker: Subscription) -> None:
    """Give signs of life for ever."""
    while True:
        worker.alive()
        await asyncio.sleep(0.02)


async def stand_still(transaction, seconds):
    await transaction.connection.execute(f"SELECT pg_sleep({seconds[0]})")
    return [None]


@pytest.mark.timeout(120)
async def test_living_keep_their_jobs_though_rescue_is_back_before_renewal(postgres_database, tmp_path):
    empty(postgres_database)
    async with (
        running_service(tmp_path, database_url=postgres_database, lease_seconds=LEASE_SECONDS) as service,
        subscribed(service, prefetch=1) as worker,
    ):
        living = asyncio.create_task(live(worker))
        await service.enqueue(new_job())
        (job,) = await take(worker, 1)
        # The service has been up for a lease: from now on it rescues.
        await asyncio.sleep(1.5 * LEASE_SECONDS)
        await asyncio.gather(
            service._dialect._settlements.submit(stand_still, [3 * LEASE_SECONDS]),
            service._dialect._leases.submit(stand_still, [3.5 * LEASE_SECONDS]),
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(1.5 * LEASE_SECONDS):
                pytest.fail(f"{await worker.next()}")
        living.cancel()
        assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate


@pytest.mark.timeout(120)
async def test_living_keep_their_jobs_after_an_outage_of_any_length(postgres_database, tmp_path):
    empty(postgres_database)
    url = make_url(postgres_database)
    async with Proxy(url.port).running() as between:
        through = url.set(host="127.0.0.1", port=between.port).render_as_string(hide_password=False)
        async with (
            running_service(tmp_path, database_url=through, lease_seconds=LEASE_SECONDS) as service,
            subscribed(service, prefetch=1) as worker,
        ):
            living = asyncio.create_task(live(worker))
            await service.enqueue(new_job())
            (job,) = await take(worker, 1)
            await asyncio.sleep(1.5 * LEASE_SECONDS)
            for outage_seconds in (1.6, 1.9, 2.3):
                between.target = 1  # nobody is there
                between.reset()
                await asyncio.sleep(outage_seconds)
                between.target = url.port
                with suppress(TimeoutError):
                    async with asyncio.timeout(2.5 * LEASE_SECONDS):
                        pytest.fail(f"{await worker.next()}")
            living.cancel()
            assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate
