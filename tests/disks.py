"""Small disks for tests, which can be full without harm to anything else."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024
REQUIRED = "DISKS_REQUIRED"
"""The variable with which a test that needs a disk fails for want of one, instead of being left out."""


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of its own under a folder: a tmpfs, which takes root to mount."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        leave_out = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        leave_out(f"a full disk takes a small one, and none can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """Fill a disk up to its last pages; return the file that does, the same each time."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - but_bytes) > 0:
            file.write(bytes(min(free, MIB)))
    return filler
