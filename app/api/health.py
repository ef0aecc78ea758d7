"""Whether this server lives, and whether it can do its work."""

from fastapi import APIRouter, Request, Response

from ..backend.extensions import Health
from ..domain.errors import DatabaseUnavailable, NotReady
from .dependencies import service_of
from .direct_route import DirectRoute

router = APIRouter(route_class=DirectRoute, tags=["service"])

_OK = b'{"status":"ok"}'


@router.get("/livez", operation_id="get_liveness")
async def get_liveness(_request: Request) -> Response:
    """Tell that the process serves requests."""
    return Response(_OK, media_type="application/json")


@router.get("/readyz", operation_id="get_readiness")
async def get_readiness(request: Request) -> Response:
    """Tell whether the server can do its work.

    503 names what is wrong: the database, its schema, a background loop that has stopped, or that the server is
    draining.
    """
    try:
        health = await service_of(request).health()
    except DatabaseUnavailable:
        health = Health(database=False, schema_fits=True, dead_loops=())
    if not health.is_ready:
        raise NotReady(" ".join(_complaints(health)))
    return Response(_OK, media_type="application/json")


def _complaints(health: Health) -> list[str]:
    complaints = []
    if not health.database:
        complaints.append("The database does not answer.")
    elif not health.schema_fits:
        complaints.append("The database's schema is not this version's: run rexecutor migrate.")
    if health.dead_loops:
        complaints.append(f"Loops that have stopped: {', '.join(health.dead_loops)}.")
    if health.draining:
        complaints.append("The server is draining: it hands out no more jobs.")
    return complaints
