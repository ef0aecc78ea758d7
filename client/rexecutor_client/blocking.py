"""Runs functions that block, in threads that end with the program, whatever they wait for.

The standard library's pool would keep the program from ending for as long as one of them blocks.
"""

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from msgspec import Struct


class _Call(Struct, frozen=True):
    context: contextvars.Context
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]


class Threads:
    """As many threads as calls go on at once; one that is idle is taken before another is started.

    A call that nobody waits for any more goes on, and keeps no later call from its thread.
    """

    def __init__(self, name: str) -> None:
        """Name the threads."""
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._idle = 0
        """Changed by the event loop's thread only."""
        self._is_closed = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Call a function in a thread, with the caller's context variables."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        if self._idle:
            self._idle -= 1
        else:
            Thread(target=self._serve, name=self._name, daemon=True).start()
        self._calls.put(_Call(contextvars.copy_context(), function, arguments, loop, result))
        return result

    def close(self) -> None:
        """End the threads, each once its call is over."""
        self._is_closed = True
        for _ in range(self._idle):
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            value: Any = None
            error: BaseException | None = None
            try:
                value = call.context.run(call.function, *call.arguments)
            except StopIteration as stopped:
                # No future takes it: whoever awaits would take it for its own end.
                error = RuntimeError("the function raised StopIteration")
                error.__cause__ = stopped
            except BaseException as raised:  # noqa: BLE001 - it is raised again where the call is awaited
                error = raised
            # The event loop may be gone by now.
            with suppress(RuntimeError):
                call.loop.call_soon_threadsafe(self._end, call.result, value, error)
            del call, value, error
            if self._is_closed:
                return

    def _end(self, result: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._idle += 1
        if result.done():
            return
        if error is None:
            result.set_result(value)
        else:
            result.set_exception(error)
