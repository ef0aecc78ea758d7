"""What surrounds every request: its id, metrics, security headers, HEAD, and the answers that errors become."""

import time
from collections.abc import Iterable
from typing import Any, TypeAlias

import uuid_utils
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..domain.errors import BackendError
from ..observability.logging import get_logger
from ..observability.meter import OTHER, Meter
from .problem_responses import problem_response, refusal_response
from .request_errors import PathNotFound, RequestError

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_ANSWERS = frozenset({"http.response.start", "websocket.http.response.start"})
_POLICY = b"content-security-policy"
_SECURITY: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
SECURITY_OF_DATA: Headers = (
    *_SECURITY,
    (_POLICY, b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Of every answer that brings no policy of its own, which only pages and their files do."""
_SWITCHING_PROTOCOLS = 101
_FORESEEN = BackendError, RequestError, HTTPException

log = get_logger()


class RequestContext:
    """ASGI middleware that gives each request an id, on its scope and in the answer's ``X-Request-Id``.

    Every answer bears security headers; what has no policy of its own may load nothing and be kept nowhere.
    """

    def __init__(self, app: ASGIApp, *, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter_ns()
        request_id = scope["request_id"] = str(uuid_utils.uuid7())
        answering = _Answering(scope, receive, send, self._meter)
        answer: Send = answering.send
        routed = scope
        if scope.get("method") == "HEAD":
            routed = {**scope, "method": "GET"}
            answer = _without_body(answer)
        try:
            await self._app(routed, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:
            if answering.status is not None or not isinstance(error, _FORESEEN):
                log.exception("request.failed", request_id=request_id, method=scope.get("method"), path=scope["path"])
            if answering.status is not None:
                raise
            await _response_to(error, routed)(routed, receive, answer)
        finally:
            if answering.status is not None and answering.status != _SWITCHING_PROTOCOLS:
                self._meter.answered(_operation(routed), answering.status, (time.perf_counter_ns() - began) // 1_000)


class _Answering:
    """Adds to an answer what every one bears, and remembers its status.

    No function that knows itself: such a circle is left to the garbage collector, which took a tenth of each request.
    """

    __slots__ = ("_meter", "_receive", "_scope", "_send", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, meter: Meter) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._meter = meter
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in _ANSWERS:
            self.status = message["status"]
            headers = message.get("headers", ())
            message["headers"] = [*headers, self._id_header(), *_security(headers)]
        elif kind == "websocket.accept":
            self.status = _SWITCHING_PROTOCOLS
            message["headers"] = [*message.get("headers", ()), self._id_header()]
            self._meter.answered(_operation(self._scope), self.status, None)
        elif kind == "websocket.close" and self.status is None:
            # No route was found. The server below would answer a bare 403.
            answer = problem_response(PathNotFound(), self._scope["request_id"])
            await answer(self._scope, self._receive, self.send)
            return
        await self._send(message)

    def _id_header(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self._scope["request_id"].encode()


def _response_to(error: Exception, scope: Scope) -> Response:
    if isinstance(error, HTTPException):
        return refusal_response(error, scope)
    return problem_response(error, scope["request_id"])


def _operation(scope: Scope) -> str:
    """Return the name of the route that answered: never the path, which anybody can choose."""
    route = scope.get("route")
    if route is None:
        return OTHER
    name: str = getattr(route, "operation_id", None) or route.name
    return name


def _security(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    for name, _ in headers:
        if name == _POLICY:
            return _SECURITY
    return SECURITY_OF_DATA


def _without_body(send: Send) -> Send:
    async def send_without_body(message: Message) -> Any:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_without_body
