"""What the database has given to a session, or taken, and nobody told: found out once there is a doubt."""

import pytest

from app.backend.extensions import Service
from app.store.claim import ClaimCall, Demand
from app.store.effects import Effects
from tests.builders import new_job
from tests.delivery.streams import subscribed, take
from tests.services import on_both_databases

pytestmark = [on_both_databases, pytest.mark.timeout(120)]


def doubt(service: Service) -> None:
    """What a dialect does when a reply was lost."""
    service._registry.committed(Effects(in_doubt=True))


async def test_jobs_that_were_claimed_untold_come_again(service):
    async with subscribed(service) as worker:
        await service.enqueue_many([new_job(), new_job()])
        await service._dialect.claim([ClaimCall("mail", [Demand(worker.lease, "w", 2)])])
        worker.request(3)
        doubt(service)
        assert [(job.fence, job.attempt) for job in await take(worker, 2)] == [(2, 1), (2, 1)]
        assert (worker.open_credits, worker.held_jobs) == (1, 2)


async def test_audit_in_the_midst_of_claims_takes_nothing_from_anybody(service):
    async with subscribed(service, prefetch=3) as worker:
        for number in range(50):
            await service.enqueue_many([new_job() for _ in range(3)])
            if number % 5 == 0:
                doubt(service)
            for job in await take(worker, 3):
                assert (job.fence, job.attempt) == (1, 1)
                assert not (await service.mark_job_complete(job.id, fence=job.fence)).duplicate
