"""Hints between servers over one PostgreSQL: coalesced, after the commit, and never needed, for each server polls."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from ....domain.instant import Instant
from ....observability.loops import GuardedLoop
from .connection import Road
from .lane import Lane, close_quietly, unavailable
from .transaction import Connection, PostgresTransaction

CHANNEL = "rexecutor"
_HEARTBEAT_SECONDS = 5.0
# A payload has 8,000 bytes at most, an executor's name 255 characters of ASCII.
_EXECUTORS_A_HINT = 20
_OWNERS_A_HINT = 40

_NOTIFY = f"SELECT count(pg_notify('{CHANNEL}', payload)) FROM unnest($1::text[]) AS payload"


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """What a server tells all others."""

    sender: str
    ready: dict[str, Instant] = {}
    """For each executor the earliest time at which a job became ready to run."""
    noticed: list[str] = []
    """The servers for which there are notices."""


_hints = msgspec.json.Decoder(Hint)


class HintSender:
    """Sends what has come together while the hints before were sent."""

    def __init__(self, lane: Lane, owner: str) -> None:
        """Send over a lane that nothing else waits for."""
        self.loop = GuardedLoop("hint_sending", self._send)
        self._lane = lane
        self._owner = owner
        self._ready: dict[str, Instant] = {}
        self._noticed: set[str] = set()
        self._pending = asyncio.Event()

    def add(self, ready: Mapping[str, Instant], noticed: Iterable[str]) -> None:
        """Let others know of ready jobs and of notices, soon."""
        for executor, at in ready.items():
            self._ready[executor] = min(at, self._ready.get(executor, at))
        self._noticed.update(noticed)
        if self._ready or self._noticed:
            self._pending.set()

    async def _send(self) -> None:
        await self._pending.wait()
        self._pending.clear()
        ready, self._ready = self._ready, {}
        noticed, self._noticed = self._noticed, set()
        hints = [Hint(self._owner, dict(part)) for part in _parts(ready.items(), _EXECUTORS_A_HINT)]
        hints += [Hint(self._owner, noticed=list(part)) for part in _parts(noticed, _OWNERS_A_HINT)]
        await self._lane.submit(_notify, [msgspec.json.encode(hint).decode() for hint in hints])


class HintListener:
    """Hears the others' hints on a connection of its own; opens another as soon as that is lost."""

    def __init__(
        self, road: Road, owner: str, *, ready: Callable[[Mapping[str, Instant]], None], noticed: Callable[[], None]
    ) -> None:
        """Tell of ready jobs, and that there are, or may be, notices for this server."""
        self.loop = GuardedLoop("hint_listening", self._listen)
        self._road = road
        self._owner = owner
        self._ready = ready
        self._noticed = noticed
        self._connection: Connection | None = None
        self._lost = asyncio.Event()

    async def close(self) -> None:
        """Hear no more."""
        if self._connection is not None:
            await close_quietly(self._connection)
            self._connection = None

    async def _listen(self) -> None:
        """See that the connection stands, or open one."""
        try:
            connection = self._connection or await self._open()
            try:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                await connection.fetchval("SELECT 1", timeout=_HEARTBEAT_SECONDS)
            else:
                self._connection = None
        except Exception as error:
            await self.close()
            raise unavailable(error) from error

    async def _open(self) -> Connection:
        self._connection = connection = await self._road.connect()
        self._lost.clear()
        connection.add_termination_listener(lambda _: self._lost.set())
        await connection.add_listener(CHANNEL, self._hear)
        # What was said meanwhile was not heard.
        self._noticed()
        return connection

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            hint = _hints.decode(str(payload))
        except msgspec.DecodeError:
            # Of a later version, or of somebody else: a hint need not be understood.
            return
        if hint.sender != self._owner:
            if hint.ready:
                self._ready(hint.ready)
            if self._owner in hint.noticed:
                self._noticed()


async def _notify(transaction: PostgresTransaction, payloads: Sequence[str]) -> list[None]:
    await transaction.connection.execute(_NOTIFY, list(payloads))
    return [None for _ in payloads]


def _parts(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    left = iter(items)
    while part := tuple(islice(left, size)):
        yield part
