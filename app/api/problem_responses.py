"""Errors become answers here, and only here; and each kind of problem has a page that explains it."""
# ruff: noqa: FAST003  A DirectRoute reads its path itself.

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from .direct_route import DirectRoute
from .pages import ENVIRONMENT, page
from .problems import MEDIA_TYPE, PROBLEMS, problem_document, problem_headers
from .request_errors import MethodNotAllowed, PathNotFound

router = APIRouter(route_class=DirectRoute)

_PAGE = ENVIRONMENT.from_string(
    """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ slug }} · rexecutor</title>
<link rel="icon" type="image/svg+xml" href="../static/icon.svg">
<link rel="stylesheet" href="../static/problem.css">
</head>
<body>
<h1>{{ problem.title }}</h1>
<p><code>{{ slug }}</code> · HTTP {{ problem.status }} {{ phrase }}</p>
<p>{{ problem.meaning }}</p>
<p>{{ problem.remedy }}</p>
<p><a href="../docs">The API's documentation</a></p>
</body>
</html>
"""
)


def problem_response(error: Exception, request_id: str) -> Response:
    """Return the answer that tells a client of an error of the contract's, or of one that nobody foresaw."""
    status, document = problem_document(error, request_id)
    return _response(status, document, problem_headers(error, status))


@router.get("/problems/{slug}", operation_id="get_problem", tags=["service"])
async def get_problem(request: Request) -> Response:
    """Explain a kind of problem.

    The page that the `type` of a problem leads to: what it means and what to do about it.
    """
    slug: str = request.path_params["slug"]
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise PathNotFound
    return page(_PAGE.render(slug=slug, problem=problem, phrase=HTTPStatus(problem.status).phrase))


def refusal_response(error: HTTPException, scope: Scope) -> Response:
    """Return the answer for what the router and the server of static files refuse."""
    request_id: str = scope["request_id"]
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return problem_response(PathNotFound(), request_id)
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return problem_response(MethodNotAllowed(_allowed_methods(scope)), request_id)
    phrase = HTTPStatus(error.status_code).phrase
    document = {
        "type": "about:blank",
        "title": phrase,
        "status": error.status_code,
        "instance": f"urn:uuid:{request_id}",
    }
    return _response(error.status_code, document, dict(error.headers or {}))


def _allowed_methods(scope: Scope) -> list[str]:
    """Return the methods that are served at the path, over all routes that match it."""
    methods: set[str] = set()
    for route in scope["app"].routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    # Within /static the path is relative to the mount, and no route of the application matches it.
    return sorted(methods | {"HEAD"} if "GET" in methods else methods or {"GET", "HEAD"})


def _response(status: int, document: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(document), status, headers, MEDIA_TYPE)
