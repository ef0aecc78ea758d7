"""What this service is."""

import msgspec
from fastapi import APIRouter, Request, Response

from ..version import __version__
from .dependencies import limits_of
from .direct_route import DirectRoute
from .protocol import FEATURES, PROTOCOL, limits_document

router = APIRouter(route_class=DirectRoute, tags=["service"])


@router.get("/v1", operation_id="get_info")
async def get_info(request: Request) -> Response:
    """Tell the protocol, the version, the features and the limits.

    Clients ignore members, message types and slugs that they don't know; the protocol's number changes only with what
    they could not ignore.
    """
    document = {
        "protocol": PROTOCOL,
        "version": __version__,
        "features": FEATURES,
        "limits": limits_document(limits_of(request)),
    }
    return Response(msgspec.json.encode(document), media_type="application/json")
