"""The route class of the whole API: the endpoint gets the request and gives the response, with nothing in between."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send


class DirectRoute(APIRoute):
    """A FastAPI route without dependencies, parameters and models, of which none is used here.

    What serves those takes longer than a whole enqueue, above all when each request waits for its commit and comes back
    to cold frames. Bodies, paths and headers are read by this package's own strict readers, OpenAPI describes them by
    its own table, and errors become answers in :mod:`.request_context`.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Serve a path."""
        super().__init__(path, endpoint, **options)
        self.app = _directly(endpoint)


def _directly(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return serve
