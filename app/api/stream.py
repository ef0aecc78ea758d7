"""The route of the stream: what is refused before the upgrade, and what happens when the connection ends."""

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from msgspec import Struct

from ..backend.contract import Subscription
from ..domain.errors import BackendError
from ..domain.limits import MAX_OPEN_CREDITS
from ..observability.logging import get_logger
from .dependencies import executor_of, limits_of, request_id_of, service_of
from .origin import check_origin
from .problem_responses import problem_response
from .protocol import SUBPROTOCOL
from .request_errors import PathNotFound, RequestError, invalid
from .worker_session import SessionClosed, Stalled, WorkerSession

FRAMES = "rexecutor.frames"
"""The ASGI extension by which our protocol class tells of each frame, pongs too."""
_CLOSE_SECONDS = 5.0
_MAX_NAME_CHARACTERS = 128
_MAX_TOKEN_CHARACTERS = 256
_FLAGS = {"true": True, "1": True, "false": False, "0": False}

router = APIRouter()
_log = get_logger()


class _Wish(Struct, frozen=True):
    worker: str | None
    prefetch: int
    batch: bool
    resume: str | None


@router.websocket("/v1/executors/{executor}/subscribe", name="subscribe_ready_jobs")
async def subscribe_ready_jobs(socket: WebSocket) -> None:
    """Stream ready jobs to one worker."""
    try:
        executor = executor_of(socket)
        wish = _wish(socket)
        check_origin(socket.headers.get("origin"), socket.headers.get("host", ""), socket.app.state.allowed_origins)
        service = service_of(socket)
        subscription = await service.subscribe_ready_jobs(
            executor, worker=wish.worker, prefetch=wish.prefetch, resume=wish.resume
        )
    except (RequestError, BackendError) as error:
        await _deny(socket, error)
        return
    log = _log.bind(request_id=request_id_of(socket), executor=executor, session=subscription.hello.session)
    code: int | None = None
    frames = socket.scope["extensions"].get(FRAMES)
    try:
        offered: list[str] = socket.scope["subprotocols"]
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        log.info("worker.connected", worker=wish.worker, prefetch=wish.prefetch)
        session = WorkerSession(socket, service, subscription, limits_of(socket), batch=wish.batch)
        if frames is not None:
            frames.heard = session.heard
        await session.run()
    except Stalled as closed:
        code = closed.code
        if frames is not None:
            # A close would wait behind all that this client does not read.
            frames.abort()
    except SessionClosed as closed:
        code = closed.code
    except OSError:
        pass
    finally:
        # Whatever ends the connection, a cancellation too: unsent jobs go back.
        await asyncio.shield(asyncio.create_task(_leave(socket, subscription, code)))
        log.info("worker.disconnected", code=code)


@router.websocket("/{path:path}")
async def refuse_path(socket: WebSocket) -> None:
    """Answer that no stream is served at this path; by itself the router would say that it is forbidden."""
    await _deny(socket, PathNotFound())


async def _deny(socket: WebSocket, error: RequestError | BackendError) -> None:
    with suppress(OSError):  # who has gone needs no answer
        await socket.send_denial_response(problem_response(error, request_id_of(socket)))


async def _leave(socket: WebSocket, subscription: Subscription, code: int | None) -> None:
    try:
        await subscription.close()
    except Exception as error:  # noqa: BLE001 - its lease runs out, and rescue finds its jobs
        _log.error("worker.leave_failed", session=subscription.hello.session, exc_info=error)
    if code is not None:
        with suppress(OSError, RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await socket.send({"type": "websocket.close", "code": code})


def _wish(socket: WebSocket) -> _Wish:
    """Read the query. Raises ValidationFailed."""
    query = socket.query_params
    worker, resume = query.get("worker"), query.get("resume")
    if worker is not None and (not 1 <= len(worker) <= _MAX_NAME_CHARACTERS or "\0" in worker):
        raise invalid("", f"the worker's name must be 1 to {_MAX_NAME_CHARACTERS} characters, without U+0000")
    if resume is not None and len(resume) > _MAX_TOKEN_CHARACTERS:
        raise invalid("", "resume must be the token that a hello gave")
    prefetch = query.get("prefetch", "0")
    if not (prefetch.isascii() and prefetch.isdecimal() and len(prefetch) <= 5 and int(prefetch) <= MAX_OPEN_CREDITS):
        raise invalid("", f"prefetch must be an integer from 0 to {MAX_OPEN_CREDITS}")
    batch = _FLAGS.get(query.get("batch", "false"))
    if batch is None:
        raise invalid("", "batch must be true or false")
    return _Wish(worker, int(prefetch), batch, resume)
