"""Email through a server that is sometimes busy: what fails is tried again, what cannot succeed is given up.

A real program would run `rexecutor work email_with_retries:send` for ever; here the worker ends with the last job.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from rexecutor_client import AsyncClient, Discard, Exponential, Job, Where, Worker, executor


@dataclass
class Email:
    to: str
    subject: str


class MailServer:
    """Stands for a real one: it is busy the first two times that somebody is written to."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    async def deliver(self, email: Email) -> None:
        self.times[email.to] = self.times.get(email.to, 0) + 1
        if email.to.startswith("busy") and self.times[email.to] < 3:
            raise ConnectionError("451 try again later")
        print(f"delivered to {email.to}: {email.subject}")


server = MailServer()


@executor(
    "example-email",
    max_attempts=5,
    timeout=timedelta(seconds=30),
    # 4 seconds, 8, 16… would be usual; here nobody wants to wait.
    backoff=Exponential(base=timedelta(seconds=0.2)),
)
async def send(job: Job[Email]) -> Discard | None:
    if "@" not in job.data.to:
        return Discard(f"{job.data.to!r} is no address")
    await server.deliver(job.data)  # whatever it raises is recorded, and the job is tried again
    return None


async def main() -> None:
    async with AsyncClient() as client:
        people = ["ada@example.org", "busy@example.org", "nobody"]
        jobs = [await client.enqueue(send.job(Email(to, "hello"))) for to in people]

        worker = Worker([send], concurrency=10)
        running = asyncio.create_task(worker.run())
        ids = [job.id for job in jobs]
        ended = Where.id_in(*ids) & (Where.status_equals("complete") | Where.status_equals("discarded"))
        while len((await client.query(ended)).jobs) < len(ids):
            await asyncio.sleep(0.05)
        worker.stop()
        await running

        for job_id, to in zip(ids, people, strict=True):
            job = await client.get_job(job_id)
            why = f": {job.errors[-1].details}" if job.status == "discarded" else ""
            print(f"{to} is {job.status} after {job.attempt} of {job.max_attempts} attempts{why}")


if __name__ == "__main__":
    asyncio.run(main())
