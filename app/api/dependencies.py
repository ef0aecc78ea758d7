"""What routes find in their application and in their request, typed."""

import re
from typing import cast

from fastapi import Request, WebSocket
from starlette.requests import HTTPConnection

from ..backend.extensions import Service
from ..domain.errors import NotReady
from ..domain.limits import MAX_INT64, MIN_INT64, Limits
from .request_errors import invalid
from .wire_types import is_executor_name

_JOB_ID = re.compile(r"-?[0-9]{1,19}", re.ASCII)


def service_of(connection: Request | WebSocket) -> Service:
    """Return the service. Raises NotReady before the application has started and after it has ended."""
    service = getattr(connection.app.state, "service", None)
    if service is None:
        raise NotReady("The server is starting or leaving.")
    return cast(Service, service)


def limits_of(connection: HTTPConnection) -> Limits:
    """Return what one request may bring."""
    return cast(Limits, connection.app.state.limits)


def request_id_of(connection: HTTPConnection) -> str:
    """Return the id that the answer bears as ``X-Request-Id``."""
    return cast(str, connection.scope["request_id"])


def job_id_of(request: Request) -> int:
    """Return the job's id in the path. Raises ValidationFailed for what is no 64-bit integer."""
    given: str = request.path_params["id"]
    if _JOB_ID.fullmatch(given) and MIN_INT64 <= int(given) <= MAX_INT64:
        return int(given)
    raise invalid("", "the id in the path must be an integer of 64 bits")


def executor_of(connection: HTTPConnection) -> str:
    """Return the executor's name in the path. Raises ValidationFailed for what is none."""
    given: str = connection.path_params["executor"]
    if is_executor_name(given):
        return given
    raise invalid(
        "",
        "the executor in the path must be 1 to 255 letters, digits and ._:- in ASCII, the first a letter, digit or _",
    )
