"""The HTTP application: its routes, its errors, and what surrounds each request."""

from collections.abc import Collection
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Lifespan

from ..domain.limits import Limits
from ..observability.meter import Meter
from ..version import __version__
from . import acknowledgements, docs, executors, health, info, jobs, metrics, problem_responses, stream
from .idempotency import InProgress
from .request_context import RequestContext

# Routes are tried in this order: those of which thousands are called each second stand first.
_ROUTERS: tuple[APIRouter, ...] = (
    jobs.router,
    acknowledgements.router,
    executors.router,
    stream.router,
    info.router,
    health.router,
    metrics.router,
    problem_responses.router,
    docs.router,
)


class Application(FastAPI):
    """FastAPI with one layer around its routes, which gives requests their ids and errors their answers.

    Its own layers do the same in five steps, and each is passed twice by a request that waits for its commit.
    """

    def __init__(self, *, meter: Meter, **options: Any) -> None:
        """Count requests with ``meter``."""
        super().__init__(**options)
        self._meter = meter

    def build_middleware_stack(self) -> ASGIApp:
        """Return the routes with what surrounds them."""
        app: ASGIApp = RequestContext(self.router, meter=self._meter)
        for added, args, kwargs in reversed(self.user_middleware):
            app = added(app, *args, **kwargs)
        return app


def build_api(
    *,
    meter: Meter,
    limits: Limits,
    lease_seconds: float,
    allowed_origins: Collection[str],
    lifespan: Lifespan[FastAPI] | None,
) -> FastAPI:
    """Return the application; its lifespan sets ``app.state.service``, and until then it answers ``not-ready``."""
    app = Application(
        meter=meter,
        title="rexecutor",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Asking for each request whether telemetry is configured takes 3 µs of the 20 that an enqueue has here.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.limits = limits
    app.state.lease_seconds = lease_seconds
    app.state.in_progress = InProgress()
    app.state.allowed_origins = frozenset(allowed_origins)
    for router in _ROUTERS:
        # Taken over instead of included: an included router matches each request twice.
        app.router.routes.extend(router.routes)
    app.mount("/static", docs.assets, name="static")
    return app
