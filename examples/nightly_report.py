"""A report each night: every run enqueues the next, under a key, so that it stands there once whoever tries.

To begin, enqueue tonight's; it goes on by itself, and a night on which no worker ran is made up for.
"""

import asyncio
from datetime import UTC, date, datetime, time, timedelta

from rexecutor_client import AsyncClient, EnqueuableJob, Enqueued, Job, UniquenessCriteria, Worker, executor

AT = time(2, 30, tzinfo=UTC)


@executor("example-report", max_attempts=10, timeout=timedelta(minutes=30))
async def report(job: Job[date]) -> None:
    # First, so that the nights go on though this report may fail for good. Each attempt asks for the next one, which
    # is there once.
    async with AsyncClient() as client:
        following = await enqueue(client, job.data + timedelta(days=1))
        print(f"the next one is job {following.id}")
    print(f"report of {job.data}, written by attempt {job.attempt}")


def job_of(day: date) -> EnqueuableJob:
    """The report of a day, due in the night after it, whose key nothing else has."""
    return report.job(
        day,
        scheduled_at=datetime.combine(day + timedelta(days=1), AT),
        uniqueness_criteria=UniquenessCriteria(
            key=f"report of {day}",
            executor=True,
            # Also when it has ended already: then it is not wanted again.
            statuses=("scheduled", "executing", "retryable", "complete", "cancelled", "discarded"),
        ),
    )


async def enqueue(client: AsyncClient, day: date) -> Enqueued:
    """Enqueue a day's report, or find the job that stands for it."""
    return await client.enqueue(job_of(day))


async def main() -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=2)  # its night is over, so the report is due
    async with AsyncClient() as client:
        first, again = await asyncio.gather(*(enqueue(client, yesterday) for _ in range(2)))
        print(f"asked for twice, it is one job: {first.id == again.id}")

        worker = Worker([report])
        running = asyncio.create_task(worker.run())
        while (await client.get_job(first.id)).status != "complete":
            await asyncio.sleep(0.05)
        worker.stop()
        await running


if __name__ == "__main__":
    asyncio.run(main())
