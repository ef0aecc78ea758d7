"""Somebody has changed the file by hand, and a claim brings a row that cannot be read."""

import asyncio
import sqlite3
from contextlib import closing

from tests.builders import new_job
from tests.delivery.streams import subscribed, take
from tests.held_writer import until_waiting, writer_held


async def test_others_have_their_answers_and_delivery_goes_on(service, tmp_path):
    job = await service.enqueue(new_job())
    await set_max_attempts(tmp_path, "x")
    async with subscribed(service) as worker:
        async with writer_held(service):
            worker.request(1)
            await until_waiting(service, 1)
            other = asyncio.create_task(service.enqueue(new_job("other")))
            await until_waiting(service, 2)
        assert (await other).id == job.id + 1
        await set_max_attempts(tmp_path, 5)
        (delivered,) = await take(worker, 1)
        assert delivered.id == job.id


async def set_max_attempts(folder, value):
    def execute():
        with closing(sqlite3.connect(folder / "jobs.db")) as connection:
            connection.execute("UPDATE jobs SET max_attempts = ? WHERE executor = 'mail'", (value,))
            connection.commit()

    await asyncio.to_thread(execute)
