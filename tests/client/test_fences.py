"""A client knows under which fence it was handed a job, so that naming the job is enough to be fenced."""

import pytest

from rexecutor_client import AsyncClient, EnqueuableJob, Job, Where
from rexecutor_client.errors import JobNotFound, StaleFence

pytestmark = pytest.mark.timeout(60)


async def handed_out(client: AsyncClient) -> Job:
    """A job that this client streamed."""
    await client.enqueue(EnqueuableJob(executor="mail"))
    subscription = await client.subscribe_ready_jobs("mail")
    job = await anext(aiter(subscription))
    await subscription.close()
    return job


async def taken_by_another(client: AsyncClient, url: str) -> Job:
    """A job that this client streamed, and another client has by now."""
    job = await handed_out(client)
    async with AsyncClient(url) as other:
        await other.rerun_job(job.id, force=True)
        (taken,) = await other.claim_jobs("mail")
    assert taken.id == job.id
    return job


async def test_late_completion_that_names_only_the_job_is_stale(url):
    async with AsyncClient(url) as client:
        job = await taken_by_another(client, url)
        with pytest.raises(StaleFence):
            await client.mark_job_complete(job.id)
        assert [found.status async for found in client.jobs(Where.id_equals(job.id))] == ["executing"]


async def test_client_that_was_not_handed_the_job_acts_as_an_operator(url):
    async with AsyncClient(url) as client, AsyncClient(url) as operator:
        job = await taken_by_another(client, url)
        assert (await operator.mark_job_complete(job.id)).status == "complete"


async def test_completion_repeated_under_the_remembered_fence_is_a_duplicate_only_while_it_is_known(url):
    async with AsyncClient(url) as client:
        job = await handed_out(client)
        assert not (await client.mark_job_complete(job.id)).duplicate
        assert (await client.mark_job_complete(job.id, fence=job.fence)).duplicate


async def test_job_that_was_polled_is_fenced_too(url):
    async with AsyncClient(url) as client, AsyncClient(url) as other:
        await client.enqueue(EnqueuableJob(executor="mail"))
        (job,) = await client.claim_jobs("mail")
        await other.rerun_job(job.id, force=True)
        with pytest.raises(StaleFence):
            await client.mark_job_complete(job.id)


async def test_unknown_job_is_told(url):
    async with AsyncClient(url) as client:
        with pytest.raises(JobNotFound):
            await client.mark_job_complete(42)
