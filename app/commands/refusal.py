"""The answer to what never becomes a request of the application: it bears an id and security headers as any other."""

from http import HTTPStatus
from typing import Any

import msgspec
from uuid_utils import uuid7

from ..api.problems import MEDIA_TYPE, problem_document, problem_headers
from ..api.request_context import SECURITY_OF_DATA
from ..domain.errors import NotReady

_SECURITY = {name.decode(): value.decode() for name, value in SECURITY_OF_DATA}


def refusal(status: HTTPStatus) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body, a problem; the connection is to be closed after it."""
    request_id = str(uuid7())
    document = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "instance": f"urn:uuid:{request_id}",
    }
    return _with_headers(document, request_id)


def refusal_while_leaving() -> tuple[dict[str, str], bytes]:
    """Return headers and body of the 503 that a server gives which takes no more."""
    request_id = str(uuid7())
    error = NotReady("The server is leaving.")
    status, document = problem_document(error, request_id)
    headers, body = _with_headers(document, request_id)
    return headers | problem_headers(error, status), body


def _with_headers(document: dict[str, Any], request_id: str) -> tuple[dict[str, str], bytes]:
    body = msgspec.json.encode(document)
    return {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        "x-request-id": request_id,
        **_SECURITY,
    }, body
