"""The reserve covers what the log still has to bring into the file, whoever keeps it from doing so."""

import sqlite3
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from app.domain.errors import InsufficientStorage
from app.domain.job import ExecutionError
from tests.builders import new_job
from tests.disks import MIB, fill, small_disk
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


async def test_log_that_has_used_the_reserve_up_is_cut_once_its_reader_is_gone(tmp_path):
    """What it adds to the file has room, though everything else is full."""
    with small_disk(tmp_path, 24) as disk, closing(sqlite3.connect(disk / "jobs.db")) as reader:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            await service.enqueue_many([new_job(data="x")] * 500)
            jobs = await service.claim_jobs("mail", limit=500, lease=timedelta(hours=1))
            fill(disk, but_bytes=RESERVE // 4)
            with suppress(InsufficientStorage):
                while True:
                    await service.enqueue(new_job(data="x" * 50_000))
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            error = ExecutionError("boom", "y" * 10_000)
            taken = 0
            with suppress(InsufficientStorage):
                for job in jobs:
                    await service.mark_job_discarded(job.id, error, fence=job.fence)
                    taken += 1
            assert 0 < taken < 499
            reader.rollback()
            for job in jobs[taken : taken + 2]:
                await service.mark_job_complete(job.id, fence=job.fence)
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


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


async def test_log_begins_anew_at_half_of_the_reserve(tmp_path):
    """A log as long as that can be brought into the file with the half that is given up first."""
    async with running_service(tmp_path, reserve_bytes=RESERVE) as service:
        for _ in range(60):
            await service.enqueue_many([new_job(data="x" * 10_000)] * 10)
        assert RESERVE // 4 < sizes(tmp_path)["-wal"] < RESERVE * 5 // 8


async def test_jobs_are_refused_from_the_start_where_there_is_no_room_for_the_reserve(tmp_path):
    with small_disk(tmp_path, 4) as disk:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            with pytest.raises(InsufficientStorage):
                await service.enqueue(new_job(data="x"))
            assert (await service.health()).database
