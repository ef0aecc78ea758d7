"""Where the system allocates no blocks for a file, or its file system refuses to, the reserve is written instead."""

import errno
import os

import pytest

from app.domain.errors import InsufficientStorage
from app.domain.job import ExecutionError
from tests.builders import new_job
from tests.disks import MIB, fill, small_disk
from tests.services import running_service

RESERVE = 4 * MIB


def refuse(_descriptor: int, _offset: int, _length: int) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.fixture(params=["absent", "refused"])
def _no_allocation(request, monkeypatch):
    """As on macOS, or as on a network's file system."""
    if request.param == "absent":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)


@pytest.mark.usefixtures("_no_allocation")
async def test_reserve_has_its_room(tmp_path):
    async with running_service(tmp_path, reserve_bytes=RESERVE) as service:
        await service.enqueue(new_job())
        held = (tmp_path / "jobs.db.reserve").stat()
        assert held.st_size == RESERVE
        assert held.st_blocks * 512 >= RESERVE


@pytest.mark.usefixtures("_no_allocation")
async def test_reserve_is_there_for_acknowledgements_on_a_full_disk(tmp_path):
    with small_disk(tmp_path, 20) as disk:
        async with running_service(disk, reserve_bytes=RESERVE) as service:
            await service.enqueue_many([new_job()] * 50)
            jobs = await service.claim_jobs("mail", limit=50)
            fill(disk)
            with pytest.raises(InsufficientStorage):
                await service.enqueue_many([new_job(data="x" * 50_000)] * 500)
            for job in jobs:
                error = ExecutionError("boom", "y" * 20_000)
                await service.mark_job_discarded(job.id, error, fence=job.fence)
