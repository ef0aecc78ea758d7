"""Child processes: servers that tell their port, and loads that tell their result; all bounded in time."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

Outcome = TypeVar("Outcome")

PROJECT = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
_LINE_BYTES = 64 * 1024 * 1024
_URL = re.compile(rb"http://127\.0\.0\.1:(\d+)")


class ChildFailed(RuntimeError):
    """A child process did not do what it was started for."""


class Server(Struct, frozen=True):
    """A server process that listens."""

    port: int
    process_id: int


@asynccontextmanager
async def running_server(
    module: str, *arguments: str, settings: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[Server]:
    """Run ``python -m module`` while the context lasts; it prints its URL when it listens, and ends at SIGTERM."""
    with open(log or os.devnull, "wb") as errors:  # noqa: PTH123 - devnull is no path of the project's
        process = await _start([module, *arguments], settings or {}, stderr=errors.fileno())
    try:
        yield Server(await _port_of(process, module), process.pid)
    finally:
        await _stop(process)


async def run_load(module: str, order: Struct, kind: type[Outcome], *, seconds: float) -> Outcome:
    """Run a load to its end and return its outcome."""
    process = await _start([module, msgspec.json.encode(order).decode()], {})
    try:
        return await outcome_of(process, kind, seconds=seconds)
    finally:
        await _stop(process)


@asynccontextmanager
async def running_load(module: str, order: Struct) -> AsyncIterator[Process]:
    """Run a load while the context lasts, which begins when the load says that it is ready."""
    process = await _start([module, msgspec.json.encode(order).decode()], {})
    try:
        if (await _first_line(process)).strip() != b"ready":
            raise ChildFailed(f"{module} did not get ready")
        yield process
    finally:
        await _stop(process)


async def outcome_of(process: Process, kind: type[Outcome], *, seconds: float) -> Outcome:
    """Wait for a load's end and return its outcome, which stands in the last line that it prints."""
    try:
        async with asyncio.timeout(seconds + _START_SECONDS):
            printed, _ = await process.communicate()
    except TimeoutError:
        raise ChildFailed("a load did not end in time") from None
    if process.returncode or not printed.strip():
        raise ChildFailed(f"a load ended with status {process.returncode}")
    return msgspec.json.decode(printed.splitlines()[-1], type=kind)


async def _start(arguments: Sequence[str], settings: Mapping[str, str], *, stderr: int | None = None) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        cwd=PROJECT,
        env=_environment(settings),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=stderr,
        limit=_LINE_BYTES,
    )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with just these settings of the service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REXECUTOR_")}
    return {**kept, **settings}


async def _port_of(process: Process, module: str) -> int:
    match = _URL.search(await _first_line(process))
    if match is None:
        raise ChildFailed(f"{module} did not tell its port")
    return int(match[1])


async def _first_line(process: Process) -> bytes:
    """Return the first line that a child prints, nothing if none comes in time."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            return await process.stdout.readline()
    except TimeoutError:
        return b""


async def _stop(process: Process) -> None:
    """End a process: by SIGTERM, and when that does not help, by SIGKILL."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
