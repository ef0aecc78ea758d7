"""Many jobs from lines of JSON, in bulks."""

import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ..errors import InvalidRequest
from ..job import EnqueuableJob
from ..json_text import encode
from ..sync_client import Client
from .exits import NotDone
from .service import Service
from .text import print_json, tell

_BULK_JOBS = 1_000
_BULK_BYTES = 8 * 1024 * 1024
_POINTER = re.compile(r"/jobs/(\d+)(.*)")


class _Bulk(NamedTuple):
    jobs: list[EnqueuableJob]
    lines: list[int]
    """Where each stood, from 1."""
    read: int
    """How many bytes of the source it took."""


def enqueue_lines(source: IO[bytes], options: dict[str, Any], service: Service, *, idempotency_key: str | None) -> None:
    """Enqueue a job for each line, and print how many were.

    A key goes with each bulk as ``key-0``, ``key-1`` …: the same lines with the same key are enqueued once.
    """
    stored = 0
    progress = _progress()
    with service.client() as client, progress:
        task = progress.add_task("enqueued", total=_size_of(source), stored=0)
        try:
            for number, bulk in enumerate(_bulks(source, options)):
                stored += _store(client, bulk, None if idempotency_key is None else f"{idempotency_key}-{number}")
                progress.update(task, advance=bulk.read, stored=stored)
        except BaseException:
            progress.stop()
            tell(f"{stored} jobs were enqueued before it failed")
            raise
    if service.json:
        print_json({"enqueued": stored})
    else:
        print(f"{stored} enqueued")


def _store(client: Client, bulk: _Bulk, key: str | None) -> int:
    try:
        return len(client.enqueue_many(bulk.jobs, idempotency_key=key))
    except InvalidRequest as refusal:
        told = [_named(error, bulk.lines) for error in refusal.errors]
        if not told:
            raise
        raise NotDone("\n".join([refusal.title, *told])) from refusal


def _named(error: dict[str, str], lines: list[int]) -> str:
    """Return what is wrong, with the line where it stands."""
    found = _POINTER.fullmatch(error.get("pointer", ""))
    if found is None or int(found[1]) >= len(lines):
        return f"  {error.get('pointer')}: {error.get('message')}"
    return f"  line {lines[int(found[1])]}, {found[2] or '(all)'}: {error.get('message')}"


def _bulks(source: IO[bytes], options: dict[str, Any]) -> Iterator[_Bulk]:
    # Each job bears the options beside its line.
    extra = len(encode(EnqueuableJob(**options)))
    jobs, lines, size, read = [], [], 0, 0
    for number, line in enumerate(source, 1):
        read += len(line)
        if not line.strip():
            continue
        jobs.append(EnqueuableJob(data=_decoded(line, number), **options))
        lines.append(number)
        size += len(line) + extra
        if len(jobs) == _BULK_JOBS or size >= _BULK_BYTES:
            yield _Bulk(jobs, lines, read)
            jobs, lines, size, read = [], [], 0, 0
    if jobs:
        yield _Bulk(jobs, lines, read)


def _decoded(line: bytes, number: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NotDone(f"line {number} is no JSON: {error}") from error


def _progress() -> Progress:
    """Return a bar on stderr, where that is a terminal: of a file its share, of a pipe how long it goes on."""
    return Progress(
        TextColumn("{task.fields[stored]:,} {task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _size_of(source: IO[bytes]) -> int | None:
    try:
        about = os.fstat(source.fileno())
    except OSError:
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None
