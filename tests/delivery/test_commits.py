"""How many transactions delivery takes: each costs a job that comes alone more than all the rest."""

import asyncio

import pytest

from app.backend.extensions import Service
from app.domain.job import Job
from app.domain.lifecycle import Acknowledgement, Operation
from app.main import open_service
from app.observability.meter import Meter
from app.observability.metrics import COMMIT_WRITES
from app.store.dialects.sqlite import claim
from tests.builders import new_job
from tests.delivery.streams import subscribed, take
from tests.held_writer import until_waiting, writer_held
from tests.services import new_settings


def commits(meter: Meter) -> int:
    """How many transactions were committed."""
    return meter.snapshot([]).buckets[COMMIT_WRITES, ()].up_to[-1][1]


def completes(jobs: list[Job]) -> list[Acknowledgement]:
    return [Acknowledgement(operation=Operation.COMPLETE, job_id=job.id, fence=job.fence) for job in jobs]


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


@pytest.mark.parametrize("beside_a_failure", [False, True])
async def test_acknowledgements_and_the_claims_for_their_credits_share_one_transaction(tmp_path, beside_a_failure):
    """Those of two frames while the writer is busy, with a claim each; what was freed is spent once."""
    meter = Meter()
    async with open_service(new_settings(tmp_path), meter) as service:
        await service.enqueue_many([new_job() for _ in range(12)])
        async with subscribed(service, prefetch=4) as worker:
            jobs = await take(worker, 4)
            before = commits(meter)
            async with writer_held(service):
                if beside_a_failure:
                    failing = service._dialect._commit.submit(fail, [None])
                calls = []
                for number in range(2):
                    worker.acknowledging()
                    calls.append(asyncio.create_task(service.acknowledge(completes(jobs[2 * number : 2 * number + 2]))))
                    await until_waiting(service, 2 * number + 2 + beside_a_failure)
            await take(worker, 4)
            assert commits(meter) == before + 2, "one more held the writer"
        assert [(await service.get_job(job_id)).fence for job_id in range(9, 13)] == [0] * 4, (
            "none was claimed in excess"
        )
        if beside_a_failure:
            assert isinstance(failing.exception(), RuntimeError)


async def test_claim_is_bounded_however_much_its_transaction_frees(service, monkeypatch):
    wanted = []
    select_due = claim._select_due
    monkeypatch.setattr(claim, "_select_due", lambda *given: (wanted.append(given[-1]), select_due(*given))[1])
    monkeypatch.setattr(claim, "MAX_JOBS_A_CLAIM", 5)
    await service.enqueue_many([new_job() for _ in range(16)])
    async with subscribed(service, prefetch=4) as one, subscribed(service, prefetch=4) as other:
        held = [*await take(one, 4), *await take(other, 4)]
        wanted.clear()
        async with writer_held(service):
            other._acknowledging = True
            one.acknowledging()
            acknowledging = asyncio.create_task(service.acknowledge(completes(held)))
            await until_waiting(service, 2)
        await acknowledging
        await take(one, 4)
        await take(other, 4)
    assert max(wanted) == 5


def fail(_transaction: object, _items: list[None]) -> list[None]:
    raise RuntimeError("failed")


async def settled(service: Service) -> None:
    """Let the dispatcher claim in vain and fall asleep: its claim is committed before these later writes are."""
    for _ in range(2):
        await service.enqueue(new_job("somebody-else"))
        await asyncio.sleep(0)
