"""The metrics, for Prometheus."""

from fastapi import APIRouter, Request, Response

from .dependencies import service_of
from .direct_route import DirectRoute

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(route_class=DirectRoute, tags=["service"])


@router.get("/metrics", operation_id="get_metrics")
async def get_metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format.

    What this server counted since it started, and how things stand now. When the database does not answer they come
    without what it knows, `rexecutor_database_up` being 0.
    """
    return Response(await service_of(request).metrics(), media_type=MEDIA_TYPE)
