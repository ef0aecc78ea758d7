"""The reserve covers what the log still has to bring into the file, whoever keeps it from doing so."""

import sqlite3
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from app.domain.errors import InsufficientStorage
from tests.builders import new_job
from tests.disks import MIB, small_disk
from tests.services import running_service

RESERVE = 4 * MIB


def sizes(disk):
    return {path.name.removeprefix("jobs.db"): path.stat().st_size for path in disk.iterdir()}


async def test_log_that_a_reader_kept_long_fits_into_the_file_on_a_full_disk(tmp_path):
    with small_disk(tmp_path, 64) as disk, closing(sqlite3.connect(disk / "jobs.db")) as reader:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            bulk = [new_job(data="x" * 10_000)] * 50
            await service.enqueue_many(bulk)
            jobs = await service.claim_jobs("mail", limit=50, lease=timedelta(hours=1))
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            added = 50
            with suppress(InsufficientStorage):
                while True:
                    await service.enqueue_many(bulk)
                    added += 50
            assert added > 100
            assert sizes(disk)["-wal"] > 2 * RESERVE
            for job in jobs[:25]:
                await service.mark_job_complete(job.id, fence=job.fence)
            reader.rollback()
            while sizes(disk)["-wal"] > RESERVE:
                for job in jobs[25:]:
                    # Repeated, it changes nothing; the batches themselves let the log be cut.
                    await service.mark_job_complete(job.id, fence=job.fence)
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert reader.execute("SELECT count(*) FROM jobs").fetchone() == (added,)


async def test_reserve_grows_for_a_large_bulk_and_shrinks_again(tmp_path):
    with small_disk(tmp_path, 128) as disk, closing(sqlite3.connect(disk / "jobs.db")) as reader:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            await service.enqueue(new_job(data="x"))
            assert sizes(disk)[".reserve"] == RESERVE
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            await service.enqueue_many([new_job(data="x" * 10_000)] * 800)
            assert sizes(disk)[".reserve"] > RESERVE + 6 * MIB
            reader.rollback()
            for _ in range(2):
                await service.enqueue(new_job(data="x"))
            assert sizes(disk)[".reserve"] == RESERVE


async def test_jobs_are_refused_from_the_start_where_there_is_no_room_for_the_reserve(tmp_path):
    with small_disk(tmp_path, 4) as disk:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            with pytest.raises(InsufficientStorage):
                await service.enqueue(new_job(data="x"))
            assert (await service.health()).database
