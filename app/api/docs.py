"""The API's documentation, from files in this package: it asks no other host for anything."""

from pathlib import Path
from secrets import token_urlsafe

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from .asyncapi import render as render_asyncapi
from .direct_route import DirectRoute
from .openapi import render as render_openapi
from .pages import ENVIRONMENT, StaticPageFiles, page, policy_with_scripts

_STATIC = Path(__file__).parent / "static"

router = APIRouter(route_class=DirectRoute, include_in_schema=False)
assets = StaticPageFiles(directory=_STATIC)

_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<link rel="icon" type="image/svg+xml" href="static/icon.svg">
"""
_SWAGGER = ENVIRONMENT.from_string(
    _HEAD
    + """\
<link rel="stylesheet" href="static/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The same is in <a href="openapi.json">openapi.json</a>.</noscript>
<script src="static/swagger-ui/swagger-ui-bundle.js"></script>
<script src="static/docs.js"></script>
</body>
</html>
"""
)
_REDOC = ENVIRONMENT.from_string(
    _HEAD
    + """\
<meta property="csp-nonce" nonce="{{ nonce }}">
<link rel="stylesheet" href="static/redoc.css">
</head>
<body>
<redoc spec-url="{{ document }}" disable-telemetry="true"></redoc>
<noscript>This page needs JavaScript. The same is in <a href="{{ document }}">{{ document }}</a>.</noscript>
<script src="static/redoc.js"></script>
<script type="module" src="static/redoc/redoc.standalone.js"></script>
</body>
</html>
"""
)


@router.get("/")
async def get_root(request: Request) -> Response:
    """Lead people to the documentation."""
    return RedirectResponse(request.scope.get("root_path", "") + "/docs")


@router.get("/docs")
async def get_docs(_request: Request) -> Response:
    """Show the API's documentation, to read and to try."""
    return page(_SWAGGER.render(title="rexecutor · API"), policy=policy_with_scripts())


@router.get("/redoc")
async def get_redoc(_request: Request) -> Response:
    """Show the API's documentation, to read."""
    return _redoc("rexecutor · API", "openapi.json")


@router.get("/asyncapi")
async def get_asyncapi_page(_request: Request) -> Response:
    """Show the documentation of the stream's messages."""
    return _redoc("rexecutor · stream", "asyncapi.json")


@router.get("/openapi.json")
async def get_openapi(request: Request) -> Response:
    """Return the API's description in OpenAPI."""
    return Response(render_openapi(request.app), media_type="application/json")


@router.get("/asyncapi.json")
async def get_asyncapi(_request: Request) -> Response:
    """Return the stream's description in AsyncAPI."""
    return Response(render_asyncapi(), media_type="application/json")


def _redoc(title: str, document: str) -> Response:
    """Return a page of Redoc's, whose style elements need a nonce: it makes them in the browser."""
    nonce = token_urlsafe(16)
    html = _REDOC.render(title=title, document=document, nonce=nonce)
    return page(html, policy=policy_with_scripts(f"'nonce-{nonce}'"))
