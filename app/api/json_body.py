"""Strict JSON in, bounded: what every body passes before anything looks at it."""

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from starlette.requests import ClientDisconnect

from .faults import TOO_LARGE, find_faults
from .json_grammar import is_json_text
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
    r"""application/json[ \t]*+(?:;[ \t]*+(?:charset=(?:utf-8|"utf-8")[ \t]*+|(?!charset=)[^;]*+))*+""", re.IGNORECASE
)
# Explaining what is wrong with more than this may take long enough for others to notice.
_EXPLAINED_INLINE_BYTES = 64 * 1024
# Without the hook a number beyond a double ends the decoding; with it such a number is infinity. Integers of thousands
# of digits are refused all the same.
_untyped = msgspec.json.Decoder(float_hook=float)


async def read_json(request: Request, decoder: msgspec.json.Decoder[T], *, limit: int, optional: bool = False) -> T:
    """Read and decode a request's body.

    With ``optional``, no body at all stands for ``{}``. Raises UnsupportedMediaType, BodyTooLarge, MalformedJson or
    ValidationFailed.
    """
    body = await _read_bytes(request, limit)
    if not body:
        if not optional:
            raise MalformedJson
        body = b"{}"
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) <= _EXPLAINED_INLINE_BYTES:
            return decode_refused(body, decoder)
    return await asyncio.to_thread(decode_refused, body, decoder)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON text. Raises MalformedJson or ValidationFailed."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_refused(body, decoder)


def decode_refused(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
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
    return msgspec.convert(value, kind)


async def _read_bytes(request: Request, limit: int) -> bytes:
    headers = request.headers
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise BodyTooLarge(limit)
    body = await _receive(request, limit)
    if body and not (
        _JSON_MEDIA_TYPE.fullmatch(headers.get("content-type", "")) and _is_plain(headers.get("content-encoding"))
    ):
        raise UnsupportedMediaType
    return body


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


def _is_plain(content_encoding: str | None) -> bool:
    return content_encoding is None or content_encoding.strip().lower() == "identity"
