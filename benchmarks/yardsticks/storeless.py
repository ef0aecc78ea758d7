"""`rexecutor serve` itself, over a service that answers at once: the same routes, settings and server without a store.

The command's own function runs, with one part replaced, so that the yardstick cannot drift away from what it measures.
With the argument ``sockets`` the application is replaced too, by one that accepts sockets and does nothing with them.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import cast
from unittest.mock import patch

from fastapi import FastAPI, WebSocket

from app import main as wiring
from app.backend.extensions import Service
from app.commands import serve as command
from app.domain.job import EnqueuableJob, Enqueued, EnqueueOutcome
from app.observability.meter import Meter
from app.settings import Settings


class Storeless:
    """Takes jobs and keeps none."""

    def __init__(self) -> None:
        """Begin with id 1."""
        self._ids = count(1)

    async def enqueue(self, job: EnqueuableJob) -> Enqueued:  # noqa: ARG002
        """Answer at once."""
        return Enqueued(next(self._ids), EnqueueOutcome.INSERTED)

    async def drain(self, seconds: float) -> None:
        """Leave at once: nobody waits here."""


@asynccontextmanager
async def open_storeless(settings: Settings, meter: Meter) -> AsyncIterator[Service]:  # noqa: ARG001
    """Stand in for ``app.main.open_service``."""
    yield cast(Service, Storeless())


def app_of_empty_sockets(service: Service, settings: Settings, meter: Meter) -> FastAPI:  # noqa: ARG001
    """Stand in for ``app.main.app_for``."""
    app = FastAPI()

    @app.websocket("/v1/executors/{executor}/subscribe")
    async def hold(socket: WebSocket) -> None:
        await socket.accept()
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass

    return app


def main() -> int:
    """Serve until SIGTERM."""
    application = app_of_empty_sockets if sys.argv[1:] == ["sockets"] else wiring.app_for
    with patch.object(command, "open_service", open_storeless), patch.object(command, "app_for", application):
        return command.serve()


if __name__ == "__main__":
    sys.exit(main())
