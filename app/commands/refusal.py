"""The answer to what never becomes a request of the application: it bears an id and security headers as any other."""

from http import HTTPStatus

import msgspec
from uuid_utils import uuid7

from ..api.problems import MEDIA_TYPE
from ..api.request_context import SECURITY_OF_DATA

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
    body = msgspec.json.encode(document)
    return {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        "x-request-id": request_id,
        **_SECURITY,
    }, body
