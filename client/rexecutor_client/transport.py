"""What both clients do alike: where the service is, what its answers mean, and when a call is made again."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
import stamina

from .calls import Call
from .errors import InvalidUrl, Problem, RexecutorError, ServiceUnreachable, Unavailable, UnexpectedAnswer, problem_of
from .version import __version__

Answer = TypeVar("Answer")

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 30.0
MAX_CONNECTIONS = 100

_document = msgspec.json.Decoder(dict[str, Any]).decode
_PROBLEM = "application/problem+json"
_LONGEST_PAUSE_SECONDS = 10.0
# Of these the request cannot have reached the service.
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def url_of(url: str | None) -> str:
    """Return the service's URL: what was given, else ``REXECUTOR_URL``, else that of a service on this machine.

    Raises InvalidUrl.
    """
    given = url or os.environ.get("REXECUTOR_URL") or DEFAULT_URL
    if not _is_address(given):
        raise InvalidUrl(f"{given!r} is no address of a service: write {DEFAULT_URL}")
    return given.rstrip("/")


def headers_of(api_key: str | None) -> dict[str, str]:
    """Return what every request bears."""
    key = api_key or os.environ.get("REXECUTOR_API_KEY")
    headers = {"Content-Type": "application/json", "User-Agent": f"rexecutor-client/{__version__}"}
    return {**headers, "Authorization": f"Bearer {key}"} if key else headers


def limits_of(max_connections: int) -> httpx2.Limits:
    """Return limits that keep every connection for the next call."""
    return httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)


def time_limits(call: Call[Any], timeout: float) -> Any:
    """Return the limits of a call that takes longer than the usual, else the client's own."""
    if not call.wait_seconds:
        return httpx2.USE_CLIENT_DEFAULT
    return httpx2.Timeout(timeout, read=timeout + call.wait_seconds)


def unreachable(error: Exception, url: str) -> RexecutorError:
    """Return what a failure of the transport means."""
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx2.LocalProtocolError):
        return UnexpectedAnswer(f"{url} cannot be asked this: {reason}")
    return ServiceUnreachable(f"{url} did not answer: {reason}", was_sent=not isinstance(error, _NOT_SENT))


def answer_of(call: Call[Answer], response: httpx2.Response) -> Answer:
    """Read a response. Raises Problem or UnexpectedAnswer."""
    if response.is_success:
        try:
            return call.decode(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"cannot read the answer to {call.method} {call.path}: {error}") from error
    raise refusal_of(response.status_code, response.headers, response.content)


def repeats(call: Call[Any], seconds: float) -> Any:
    """Return attempts, with pauses between them, until ``seconds`` are over; iterate over them."""
    return stamina.retry_context(
        on=partial(_pause, call), attempts=None, timeout=seconds, wait_initial=0.1, wait_max=5.0, wait_jitter=0.2
    )


def may_repeat(call: Call[Any], error: RexecutorError) -> bool:
    """Return whether making the call again may help, and cannot do twice what is to be done once."""
    if isinstance(error, ServiceUnreachable):
        return call.repeatable or not error.was_sent
    return isinstance(error, Unavailable) and (call.repeatable or not error.may_have_been_done)


def _pause(call: Call[Any], error: Exception) -> bool | float:
    if not isinstance(error, RexecutorError) or not may_repeat(call, error):
        return False
    if isinstance(error, Problem) and error.retry_after is not None:
        return min(error.retry_after, _LONGEST_PAUSE_SECONDS)
    return True


def refusal_of(status: int, headers: Mapping[str, str], content: bytes) -> RexecutorError:
    """Return what an answer without success means."""
    if headers.get("content-type", "").partition(";")[0].strip() != _PROBLEM:
        if status in (502, 503, 504):
            # A proxy's word: the service behind it is away.
            return ServiceUnreachable(f"a proxy answered {status} for the service", was_sent=True)
        return UnexpectedAnswer(f"the answer, with status {status}, is not the service's")
    try:
        document = _document(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return UnexpectedAnswer(f"cannot read the problem with status {status}: {error}")
    return problem_of(status, document, retry_after=_seconds(headers.get("retry-after")))


def _is_address(url: str) -> bool:
    if not url.isprintable() or {*" ?#"} & {*url}:
        return False
    try:
        parts = urlsplit(url)
        # What they refuse only when it is asked for, or used. httpx2 looks at the name of the host too.
        (parts.hostname or "").encode("idna")
        return httpx2.URL(url).scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx2.InvalidURL):
        return False


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(float(text), 0.0)
    except ValueError:
        return None
