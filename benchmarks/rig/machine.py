"""What the figures were measured on: processor, memory, system, versions; no paths and no names of hosts."""

import math
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .children import PROJECT

_LIBRARIES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "websockets", "msgspec", "sqlalchemy")
_OPEN_FILES = 8_192
_MEBIBYTE = 1024 * 1024


def describe_run(folder: Path, database: dict[str, str]) -> dict[str, Any]:
    """Return the facts of a run whose files lie in the folder; the database's name with its version are given."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEBIBYTE,
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "file_system": _file_system(folder),
        },
        "versions": {
            "python": platform.python_version(),
            **database,
            **{name: version(name) for name in _LIBRARIES},
        },
    }


class OthersMeter:
    """Tells what else the machine did during a run: the best reason to distrust its figures."""

    def __init__(self) -> None:
        """Begin to measure."""
        self._began_at = time.monotonic()
        self._before = _seconds_of_others()

    def cores(self) -> float | None:
        """Return how many cores others kept busy in the mean; None where the system does not tell."""
        now = _seconds_of_others()
        if now is None or self._before is None:
            return None
        return round(max(0.0, now - self._before) / (time.monotonic() - self._began_at), 2)


def resident_bytes(process_id: int) -> int | None:
    """Return how much of a process is in memory; None where the system does not tell."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def cpu_seconds(process_id: int, *, with_children: bool = False) -> float:
    """Return the processor time of a process, and of its children, those that have ended too; NaN if unknown."""
    try:
        own = _ticks(process_id)
        ticks = own[0]
        if with_children:
            ticks += own[1] + sum(_ticks(int(each))[0] for each in _children(process_id))
    except OSError:
        return math.nan
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(process_id: int) -> tuple[int, int]:
    """Return the time of a process and that of its children that have ended."""
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])


def _children(process_id: int) -> list[str]:
    return Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii").split()


def allow_open_files() -> None:
    """Let this process and its children have thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _seconds_of_others() -> float | None:
    """Return the processor time of all but this process and the children that it has waited for."""
    try:
        first_line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, *interrupts = (int(ticks) for ticks in first_line.split()[1:9])
    busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    return busy - (times.user + times.system + times.children_user + times.children_system)


def _commit() -> str:
    """Return the commit, with a ``+`` when the service or the benchmarks differ from it."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", "app", "benchmarks/*.py")
    return f"{head}{'+' if changed else ''}" if head else "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(folder: Path) -> str:
    """Return the kind of file system, which decides what a durable commit costs."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return sys.platform
    around = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(around, default=(0, "unknown"))[1]
