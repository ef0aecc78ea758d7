"""`Idempotency-Key`: which requests are repeats of one another, and what they are told.

That a repeat changes nothing is the backend's promise, for repeats come after restarts and to other servers too. Here
a repeat only waits while this server is still busy with the first.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from hashlib import sha256
from typing import TypeVar, cast

import msgspec
from fastapi import Request

from ..domain.errors import IdempotencyInProgress
from ..domain.idempotency import Idempotency
from .json_body import decode_json, read_body
from .request_errors import invalid

T = TypeVar("T")

WAIT_SECONDS = 5.0

_AT_ONCE = nullcontext()
_HEADER = b"idempotency-key"
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")


class InProgress:
    """The keyed requests that this server has not answered yet."""

    def __init__(self, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Let a repeat wait this long."""
        self._wait_seconds = wait_seconds
        self._first: dict[tuple[str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, call: Idempotency) -> AsyncIterator[None]:
        """Wait until the request with the same key that came before has its answer; later ones wait for this one.

        Those that waited for the same one go on together: the backend puts them in order. Raises IdempotencyInProgress.
        """
        place = call.scope, call.key
        if (first := self._first.get(place)) is not None:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await first.wait()
            except TimeoutError:
                raise IdempotencyInProgress from None
        answered = asyncio.Event()
        is_first = self._first.setdefault(place, answered) is answered
        try:
            yield
        finally:
            if is_first:
                del self._first[place]
                answered.set()


async def read_repeatable(
    request: Request, decoder: msgspec.json.Decoder[T], operation: str, *, limit: int, optional: bool = False
) -> tuple[T, Idempotency | None]:
    """Read a request's body as read_json does; return also what makes it a repeat of others, if it bears a key."""
    body, headers = await read_body(request, limit)
    call = _idempotency_of(request, operation, body) if _HEADER in headers else None
    return await decode_json(body, decoder, optional=optional), call


def turn_of(request: Request, call: Idempotency | None) -> AbstractAsyncContextManager[None]:
    """Return the context in which a request is served; one without a key need not wait."""
    if call is None:
        return _AT_ONCE
    return cast(InProgress, request.app.state.in_progress).turn(call)


def replay_headers(call: Idempotency | None) -> dict[str, str]:
    """Return the headers that tell whether an answer was given before."""
    return {"Idempotency-Replayed": "true"} if call is not None and call.is_replay else {}


def _idempotency_of(request: Request, operation: str, body: bytes) -> Idempotency:
    given = [value for name, value in request.scope["headers"] if name == _HEADER]
    key = given[0].strip(b" \t")
    if len(given) > 1 or not _KEY.fullmatch(key):
        raise invalid(
            "", "the header Idempotency-Key must be 1 to 255 visible characters of ASCII, and stand there once"
        )
    return Idempotency(
        scope=f"{operation} {request.scope['path']} {_api_key_of(request)}",
        key=key.decode(),
        body_hash=sha256(body).hexdigest(),
    )


def _api_key_of(_request: Request) -> str:
    """Return the name of the API key that the request bears. There are none yet: all callers are one."""
    return ""
