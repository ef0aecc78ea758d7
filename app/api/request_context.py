"""What surrounds every request: its id, answers to HEAD, and the last resort when something fails unforeseen."""

from typing import Any

import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..observability.logging import get_logger
from .problem_responses import problem_response

_BEARS_HEADERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})

log = get_logger()


class RequestContext:
    """ASGI middleware that gives each request an id, on its scope and in the answer's ``X-Request-Id``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = str(uuid_utils.uuid7())
        header = (b"x-request-id", request_id.encode())
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] in _BEARS_HEADERS:
                has_begun = True
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        scope["request_id"] = request_id
        try:
            if scope.get("method") == "HEAD":
                await self._app({**scope, "method": "GET"}, receive, _without_body(send_with_id))
            else:
                await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("request.failed", request_id=request_id, method=scope.get("method"), path=scope["path"])
            if scope["type"] != "http" or has_begun:
                raise
            await problem_response(error, request_id)(scope, receive, send_with_id)


def _without_body(send: Send) -> Send:
    async def send_without_body(message: Message) -> Any:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_without_body
