"""How many transactions delivery takes: each costs a job that comes alone more than all the rest."""

import asyncio

from app.backend.extensions import Service
from app.main import open_service
from app.observability.meter import Meter
from app.observability.metrics import COMMIT_WRITES
from tests.builders import new_job
from tests.delivery.streams import subscribed, take
from tests.services import new_settings


def commits(meter: Meter) -> int:
    """How many transactions were committed."""
    return meter.snapshot([]).buckets[COMMIT_WRITES, ()].up_to[-1][1]


async def test_more_credits_cost_nothing_while_no_job_is_due(tmp_path):
    meter = Meter()
    async with open_service(new_settings(tmp_path), meter) as service, subscribed(service, prefetch=10) as worker:
        job = await service.enqueue(new_job())
        await take(worker, 1)
        await settled(service)
        before = commits(meter)
        for _ in range(10):
            worker.request(1)
            await asyncio.sleep(0)
        worker.acknowledging()
        await service.mark_job_complete(job.id)
        await service.get_job(job.id)
        assert commits(meter) == before + 1


async def settled(service: Service) -> None:
    """Let the dispatcher claim in vain and fall asleep: its claim is committed before these later writes are."""
    for _ in range(2):
        await service.enqueue(new_job("somebody-else"))
        await asyncio.sleep(0)
