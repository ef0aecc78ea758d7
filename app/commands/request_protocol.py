"""uvicorn's HTTP protocol with bounds: on connections, on a request's head, and on how slow a peer may be."""

import asyncio
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast

from msgspec import Struct
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..api.problem_responses import problem_response
from ..api.request_context import RequestContext
from ..domain.errors import NotReady
from ..observability.meter import Meter
from .refusal import refusal
from .stall_guard import LEAST_PROGRESS_BYTES, StallGuarded, cut_off
from .whole_answer import WholeAnswer

REFUSED_CONNECTIONS = 64
"""So many beyond the limit are told why, or are probes; what comes on top is cut off."""
_PROBES = frozenset({"/livez", "/metrics"})
"""A full server is alive: who took it for dead would restart it, and its workers would fill the next."""
_MAX_HEAD_BYTES = 64 * 1024
_MAX_REFUSED_BODY_BYTES = 64 * 1024


class Bounds(Struct, frozen=True):
    """What one server bears from its peers."""

    connections: int
    head_seconds: float
    """From the connection, or the first byte of a later request, to the end of the head."""
    body_seconds: float
    """In each such period a body must end, or 64 KiB of it arrive."""


class _Stage(Enum):
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()


class RequestProtocol(StallGuarded, HttpToolsProtocol):
    """One connection. A request that is not sent in time is answered with 408, one with a long head with 431.

    A request may come while those before it have no answer yet. Then it is not its turn: no clock runs for it, and
    a refusal of it would be heard as the answer to another, which may be committed.
    """

    bounds: Bounds
    refuse: RequestContext
    _stage = _Stage.HEAD
    _last_whole: RequestResponseCycle | None = None
    """The last request that came whole."""
    _running: RequestResponseCycle | None = None
    """The last request that was given to the application,"""
    _answer: WholeAnswer | None = None
    """and what its answer is written to."""
    _may_upgrade = True
    _is_over = False
    """Whether what comes is dropped: the parser would keep an endless head."""
    _awaited: _Stage | None = None
    _deadline: asyncio.TimerHandle | None = None
    _has_upgraded = False
    _has_begun = False
    """Whether a head began in this read."""
    _read_bytes = 0
    _begun_bytes = 0
    """Of the read in which an unfinished head began: it may hold requests before it."""
    _unparsed_bytes = 0
    """What was read since, or since the last request where no head has begun."""
    _headers_in_head = 0
    _refused_as = HTTPStatus.BAD_REQUEST
    """What a request is told that cannot be parsed any further."""
    _body_bytes = 0

    # What the transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let a connection in; beyond the limit it hears why it is not served, and far beyond it is cut off."""
        super().connection_made(transport)
        excess = len(self.connections) - self.bounds.connections
        if excess > REFUSED_CONNECTIONS:
            cut_off(transport)
            return
        if excess > 0:
            self.app = self._serve_beyond_the_limit
        self._await(_Stage.HEAD, self.bounds.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Parse, then see to it that what is still missing comes in time."""
        if self._is_over:
            return
        self._has_begun = False
        self._read_bytes = len(data)
        super().data_received(data)
        if self._has_upgraded or self.transport.is_closing():
            return
        if self._stage is _Stage.BODY:
            self._body_bytes += len(data)
            # Headers may follow a chunked body.
            if len(self.headers) > self._headers_in_head and self._is_head_too_large():
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._stage is _Stage.HEAD:
            if self._has_begun:
                self._begun_bytes = len(data)
            else:
                self._unparsed_bytes += len(data)
            if self._unparsed_bytes > _MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._await_what_is_missing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks, and tell the request that runs, of which uvicorn knows only if it is the last."""
        self._await_nothing()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    # What the parser calls; an error raised here ends in send_400_response.

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._stage = _Stage.HEAD
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin a body."""
        # Measured only where it may be too large: each header apart would cost a request some 3 µs.
        if self._begun_bytes + self._unparsed_bytes + self._read_bytes > _MAX_HEAD_BYTES and self._is_head_too_large():
            self._refused_as = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _HeadTooLarge
        self._stage = _Stage.BODY
        self._begun_bytes = self._unparsed_bytes = self._body_bytes = 0
        self._headers_in_head = len(self.headers)
        # The socket would else answer before its turn. Decided once: the answer before may come amid the request.
        self._may_upgrade = self._is_its_turn()
        super().on_headers_complete()
        if self.app is not self.config.loaded_app:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Have the whole request."""
        self._stage = _Stage.ANSWER
        super().on_message_complete()
        self._last_whole = self.cycle

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol."""
        self._has_upgraded = True
        self._await_nothing()
        super().handle_websocket_upgrade()

    async def _serve_beyond_the_limit(self, scope: Any, receive: Any, send: Any) -> None:
        serve = self.config.loaded_app if scope["path"] in _PROBES else self.refuse
        await serve(scope, receive, send)

    def _should_upgrade(self) -> bool:
        return self._may_upgrade and self.app is self.config.loaded_app and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: it is a plain request."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse what is no HTTP, or has too long a head."""
        self._refuse(self._refused_as)

    def _is_head_too_large(self) -> bool:
        """Tell whether the target and the headers, what follows a chunked body too, are longer than they may be."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _MAX_HEAD_BYTES

    # Turns: answers go out in the order of the requests.

    def on_response_complete(self) -> None:
        """Turn to the next request, and give it its time from now on."""
        if self._running is not None and self._answer is not None:
            self._answer.flush()
            # Else they would know each other, and be left to the garbage collector.
            self._running.transport = self.transport
        super().on_response_complete()
        # Between requests uvicorn's own clock runs, for idle connections.
        if self._stage is not _Stage.ANSWER and not self.transport.is_closing():
            self._await_what_is_missing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        self._answer = WholeAnswer(cycle)
        cycle.transport = cast(asyncio.Transport, self._answer)
        super()._start_asgi_task(cycle, app)

    def _is_its_turn(self) -> bool:
        """Return whether all requests that came whole are answered."""
        return self._last_whole is None or self._last_whole.response_complete

    # The clock.

    def _await_what_is_missing(self) -> None:
        if self._is_over or not self._is_its_turn():
            self._await_nothing()
        elif self._stage is _Stage.BODY:
            self._await(_Stage.BODY, self.bounds.body_seconds)
        else:
            # Blank lines between requests too: they begin none, and uvicorn has stopped its clock for idle ones.
            self._await(_Stage.HEAD, self.bounds.head_seconds)

    def _await(self, stage: _Stage, seconds: float) -> None:
        """Give the peer this long for the rest of the head or for a part of the body; a clock that runs goes on."""
        if self._awaited is stage:
            return
        self._await_nothing()
        self._awaited = stage
        self._deadline = self.loop.call_later(seconds, self._judge)

    def _await_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = self._awaited = None

    def _judge(self) -> None:
        stage = self._awaited
        self._deadline = self._awaited = None
        if stage is _Stage.BODY and (self._body_bytes >= LEAST_PROGRESS_BYTES or self.flow.read_paused):
            self._body_bytes = 0
            self._await(_Stage.BODY, self.bounds.body_seconds)
        elif stage is _Stage.HEAD and self._last_whole is None and not (self._begun_bytes or self._unparsed_bytes):
            # Opened in advance and never used: there is no request to answer.
            self.transport.close()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer the request that is under way, in its turn and unless an answer is, and close; listen no more.

        While requests before it have no answer the connection closes after theirs, and what waits behind never runs.
        """
        self._is_over = True
        self._await_nothing()
        begun = None if self.cycle is self._last_whole else self.cycle
        if self._last_whole is not None and not self._last_whole.response_complete:
            self._last_whole.keep_alive = False
        elif begun is not None and begun.response_started and not begun.response_complete:
            begun.keep_alive = False
        else:
            if not (self.transport.is_closing() or (begun is not None and begun.response_complete)):
                self.transport.write(_refusal(status))
            self.transport.close()


class _HeadTooLarge(Exception):
    """The target and the headers are longer than a head may be."""


def bounded_protocol(bounds: Bounds, meter: Meter) -> type[RequestProtocol]:
    """Return the protocol class for a server with these bounds; whom it refuses is counted too."""
    refuse = RequestContext(_answer_refused, meter=meter)
    return type("BoundedRequestProtocol", (RequestProtocol,), {"bounds": bounds, "refuse": refuse})


def _refusal(status: HTTPStatus) -> bytes:
    headers, body = refusal(status)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return b"%b%b\r\n%b" % (STATUS_LINE[status.value], lines.encode(), body)


async def _answer_refused(scope: Scope, receive: Receive, send: Send) -> None:
    # What the peer has sent is read first: a close with bytes unread would take the answer from it.
    read_bytes, more = 0, True
    while more and read_bytes < _MAX_REFUSED_BODY_BYTES:
        message = await receive()
        read_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
    response = problem_response(NotReady("This server has as many connections as it may."), scope["request_id"])
    await response(scope, receive, send)
