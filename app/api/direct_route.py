"""The route class of the whole API: the endpoint gets the request and gives the response, with nothing in between."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """A FastAPI route without dependencies, parameters and models, of which none is used here.

    Measured: 13 µs a request, against 25 of a plain route and 33 of one in an included router. Bodies, paths and
    headers are read by this package's own strict readers, and OpenAPI describes them by its own table.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint
