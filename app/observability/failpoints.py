"""Points at which a test lets the process end as a kill would; none is there unless the setting names it.

A setting reads ``insert_jobs.before_commit=exit@3``, several with commas: exit at the third pass of that point. The
points are

- ``<function>.before_commit`` and ``<function>.after_commit``, for each function that runs in a write transaction;
- ``answer.before`` and ``answer.middle`` (the head is out), ``frame.before`` and ``frame.middle`` (half of it is out);
- ``drain.begun`` and ``drain.waiting``.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

EXIT_STATUS = 86
"""Tells an exit at a point from every other."""
_POINT = re.compile(r"([a-z_]+\.[a-z_]+)=exit(?:@([1-9][0-9]{0,8}))?")
_FLUSH_SECONDS = 0.1

_Message: TypeAlias = MutableMapping[str, Any]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Failpoints:
    """Counts the passes of each point; each point belongs to one thread."""

    def __init__(self, passes: dict[str, int]) -> None:
        """Exit at the given pass of each point."""
        self._left = passes

    def passed(self, point: str, *, hang_seconds: float = 0.0) -> None:
        """Pass a point, or exit there: nothing is flushed, closed or told.

        With ``hang_seconds`` its thread hangs first: what another was told too early gets out.
        """
        if self.reached(point):
            time.sleep(hang_seconds)
            exit_here()

    def are_in(self, function: str) -> bool:
        """Whether a transaction of this function has such a point."""
        return any(point.partition(".")[0] == function for point in self._left)

    def reached(self, point: str) -> bool:
        """Count a pass; return whether it is the one to exit at."""
        left = self._left.get(point)
        if left is None:
            return False
        self._left[point] = left - 1
        return left == 1


def parse_failpoints(setting: str) -> Failpoints | None:
    """Return the points that a setting names, None for none. Raises ValueError."""
    passes: dict[str, int] = {}
    for part in filter(None, setting.split(",")):
        named = _POINT.fullmatch(part.strip())
        if named is None:
            raise ValueError("expected failpoints, as in insert_jobs.before_commit=exit@3")
        passes[named[1]] = int(named[2] or 1)
    return Failpoints(passes) if passes else None


def exit_here() -> None:
    """End the process as a kill would."""
    os._exit(EXIT_STATUS)


class FailingSends:
    """ASGI middleware that passes the points of what is sent."""

    def __init__(self, app: _App, failpoints: Failpoints) -> None:
        """Stand around the application."""
        self._app = app
        self._failpoints = failpoints

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Serve, passing points."""

        async def send_past_points(message: _Message) -> None:
            match message["type"]:
                case "http.response.start":
                    self._failpoints.passed("answer.before")
                case "http.response.body" if self._failpoints.reached("answer.middle"):
                    await _exit_after_flush()
                case "websocket.send":
                    self._failpoints.passed("frame.before")
                    if self._failpoints.reached("frame.middle"):
                        await _send_half(scope, send, message)
            await send(message)

        await self._app(scope, receive, send_past_points)


class _HalfTransport:
    """Writes half of the bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.write(data[: len(data) // 2])


async def _send_half(scope: _Message, send: _Send, message: _Message) -> None:
    """Send the first half of a frame, then exit."""
    protocol = scope["extensions"]["rexecutor.frames"]
    whole = protocol.transport
    protocol.transport = _HalfTransport(whole)
    try:
        await send(message)
    finally:
        protocol.transport = whole
    await _exit_after_flush()


async def _exit_after_flush() -> None:
    # What was written leaves the process at the end of the loop's turn.
    await asyncio.sleep(_FLUSH_SECONDS)
    exit_here()
