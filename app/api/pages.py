"""Pages and their files: what each may load, and that a browser asks again whether a file is still the same."""

import os
from typing import Any

from jinja2 import Environment
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
_PAGE_WITH_SCRIPTS = _POLICY + "script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src data:"
_PLAIN_POLICY = _POLICY + "style-src 'self'; img-src 'self'"

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)


def page(html: str, *, policy: str = _PLAIN_POLICY) -> Response:
    """Return a page; by the policy it loads style sheets and pictures of this service's, no scripts."""
    return Response(
        html, media_type="text/html", headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    )


def policy_with_scripts(*styles: str) -> str:
    """Return a policy for pages with scripts of this service's, which speak with this service only."""
    style_sources = " ".join(["'self'", *styles])
    return f"{_PAGE_WITH_SCRIPTS}; style-src {style_sources}"


class StaticPageFiles(StaticFiles):
    """The files of pages."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file; a socket finds nothing here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await super().__call__(scope, receive, send)

    def file_response(self, full_path: str | os.PathLike[str], *arguments: Any, **members: Any) -> Response:
        """Return a file, or that it is still the same."""
        response = super().file_response(full_path, *arguments, **members)
        response.headers["Content-Security-Policy"] = _PLAIN_POLICY
        response.headers["Cache-Control"] = "no-cache"
        return response
