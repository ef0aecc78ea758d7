"""Strict JSON in, bounded: what every body passes before anything looks at it."""

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from .faults import TOO_LARGE, find_faults
from .json_grammar import is_json_text
from .origin import check_origin
from .request_errors import (
    BodyTooLarge,
    MalformedJson,
    TooDeeplyNested,
    UnsupportedMediaType,
    ValidationFailed,
    invalid,
)

T = TypeVar("T")

_JSON_MEDIA_TYPE = re.compile(
    rb"""application/json[ \t]*+(?:;[ \t]*+(?:charset=(?:utf-8|"utf-8")[ \t]*+|(?!charset=)[^;]*+))*+""", re.IGNORECASE
)
_MAX_LENGTH_DIGITS = 18
# Explaining what is wrong with more than this may take long enough for others to notice.
_EXPLAINED_INLINE_BYTES = 64 * 1024
# Without the hook a number beyond a double ends the decoding; with it such a number is infinity. Integers of thousands
# of digits are refused all the same.
_untyped = msgspec.json.Decoder(float_hook=float)


async def read_json(request: Request, decoder: msgspec.json.Decoder[T], *, limit: int, optional: bool = False) -> T:
    """Read and decode a request's body.

    With ``optional``, no body at all stands for ``{}``. Raises UnsupportedMediaType, BodyTooLarge, MalformedJson,
    ValidationFailed, or ForeignOrigin for no body from a foreign page.
    """
    body, _ = await read_body(request, limit)
    return await decode_json(body, decoder, optional=optional)


async def read_body(request: Request, limit: int) -> tuple[bytes, dict[bytes, bytes]]:
    """Return a request's body as it came, and its headers; of doubled ones the last.

    Raises UnsupportedMediaType, BodyTooLarge, or ForeignOrigin for no body from a foreign page.
    """
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > _MAX_LENGTH_DIGITS or int(length) > limit):
        raise BodyTooLarge(limit)
    body = await _receive(request, limit)
    if not body and b"origin" in headers:
        # With a body of JSON a browser asks first whether a foreign page may send it, and is told no.
        origin, host = headers[b"origin"].decode("latin-1"), headers.get(b"host", b"").decode("latin-1")
        check_origin(origin, host, request.app.state.allowed_origins)
    if body and not (
        _JSON_MEDIA_TYPE.fullmatch(headers.get(b"content-type", b"").strip())
        and headers.get(b"content-encoding", b"identity").strip().lower() == b"identity"
    ):
        raise UnsupportedMediaType
    return body, headers


async def decode_json(body: bytes, decoder: msgspec.json.Decoder[T], *, optional: bool = False) -> T:
    """Decode what was read of a body. Raises MalformedJson or ValidationFailed."""
    if not body:
        if not optional:
            raise MalformedJson
        body = b"{}"
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) <= _EXPLAINED_INLINE_BYTES:
            return _explain(body, decoder)
    return await asyncio.to_thread(_explain, body, decoder)


def _explain(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Tell what is wrong with a body that the decoder refused: no JSON at all, or which values.

    What is left of doubled keys may be right after all: of those the last counts, and it is returned.
    """
    try:
        value = _untyped.decode(body)
    except RecursionError:
        raise (TooDeeplyNested() if is_json_text(body) else MalformedJson()) from None
    except msgspec.ValidationError:
        raise (invalid("", TOO_LARGE) if is_json_text(body) else MalformedJson()) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedJson from None
    return converted(value, decoder.type)


def converted(value: Any, kind: type[T]) -> T:
    """Return the decoded value as the kind. Raises ValidationFailed with all that keeps it from being so."""
    faults = find_faults(value, kind)
    if faults:
        raise ValidationFailed(*faults)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise invalid("", "has a wrong value") from None


async def _receive(request: Request, limit: int) -> bytes:
    """Read the body as it comes, and no further than the limit."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        parts = bytearray(body)
        while message.get("more_body", False) and len(parts) <= limit:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts += message.get("body", b"")
        body = bytes(parts)
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body
