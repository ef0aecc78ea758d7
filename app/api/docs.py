"""The API's documentation, from files in this package: it asks no other host for anything."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

from .direct_route import DirectRoute
from .openapi import render

_STATIC = Path(__file__).parent / "static"

router = APIRouter(route_class=DirectRoute, include_in_schema=False)
assets = StaticFiles(directory=_STATIC)

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>rexecutor · API</title>
<link rel="icon" type="image/png" href="static/swagger-ui/favicon-32x32.png">
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


@router.get("/")
async def get_root(request: Request) -> Response:
    """Lead people to the documentation."""
    return RedirectResponse(request.scope.get("root_path", "") + "/docs")


@router.get("/docs")
async def get_docs(_request: Request) -> Response:
    """Show the API's documentation."""
    return Response(_PAGE, media_type="text/html")


@router.get("/openapi.json")
async def get_openapi(request: Request) -> Response:
    """Return the API's description in OpenAPI."""
    return Response(render(request.app), media_type="application/json")
