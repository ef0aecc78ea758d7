"""Runs functions that keep a processor busy in processes of their own."""

import asyncio
import inspect
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any
from weakref import WeakKeyDictionary

from .job import Job
from .recorded import error_of

_LONGEST_START_SECONDS = 30.0
"""A process that takes longer is given up."""


class Processes:
    """Processes that run one call each at a time. One whose call is given up, as at a timeout, is ended with it."""

    def __init__(self, most: int) -> None:
        """Run so many calls at once, at most."""
        self._free = asyncio.Semaphore(most)
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: set[ProcessPoolExecutor] = set()
        self._began_at: WeakKeyDictionary[ProcessPoolExecutor, float] = WeakKeyDictionary()

    async def call(self, owner: object, function: Callable[..., Any], job: Job[Any, Any]) -> Any:
        """Call an executor's function; it is found there by its name, as in any module that is imported.

        What it raises is returned as an ExecutionError: not every exception finds its way out of a process.
        """
        module, name = function.__module__, function.__qualname__
        if "<locals>" in name:
            raise TypeError(f"{name} is no function of a module: a process of its own would not find it")
        is_method = getattr(function, "__self__", None) is owner
        async with self._free:
            process = await self._ready(module)
            try:
                return await _run(process, _call, module, name, is_method, job)
            except (asyncio.CancelledError, BrokenExecutor):
                self._busy.discard(process)
                _end(process)
                raise
            finally:
                self._give_back(process)

    async def _ready(self, module: str) -> ProcessPoolExecutor:
        """Return a process that has the module; whoever runs out of time meanwhile leaves it to the next."""
        clock = asyncio.get_running_loop().time
        while True:
            is_new = not self._idle
            process = _new_process() if is_new else self._idle.pop()
            self._busy.add(process)
            began_at = self._began_at.setdefault(process, clock())
            try:
                await _run(process, _prepare, module)
            except asyncio.CancelledError:
                if clock() < began_at + _LONGEST_START_SECONDS:
                    self._give_back(process)
                else:
                    self._busy.discard(process)
                    _end(process)
                raise
            except BrokenExecutor:
                self._busy.discard(process)
                if is_new:
                    raise
                # It was ended while it had nothing to do, as where memory is short: that is not this job's fault.
            else:
                return process

    def _give_back(self, process: ProcessPoolExecutor) -> None:
        if process in self._busy:
            self._busy.discard(process)
            self._idle.append(process)

    def close(self) -> None:
        """End all processes, whatever they do."""
        for process in [*self._idle, *self._busy]:
            _end(process)
        self._idle = []


def _new_process() -> ProcessPoolExecutor:
    # Spawned: a program with threads is not to be forked.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin)


def _end(process: ProcessPoolExecutor) -> None:
    # Python 3.14 has kill_workers() for this.
    for each in [*(process._processes or {}).values()]:  # noqa: SLF001
        each.kill()
    process.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """Live as long as the worker: not ended by the signals that tell that one to stop, nor left behind by its kill."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(process: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().run_in_executor(process, function, *arguments)


def _prepare(module: str) -> None:
    with suppress(BaseException):  # it is told once there is a job to tell it of
        import_module(module)


def _call(module: str, name: str, is_method: bool, job: Job[Any, Any]) -> Any:  # noqa: FBT001 - a pool passes no names
    try:
        result = _found(module, name, is_method=is_method)(job)
        return asyncio.run(result) if inspect.iscoroutine(result) else result
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the job's
        return error_of(error)


def _found(module: str, name: str, *, is_method: bool) -> Callable[[Job[Any, Any]], Any]:
    home = sys.modules.get(module) or import_module(module)
    *path, last = name.split(".")
    holder: Any = home
    for each in path:
        holder = getattr(holder, each)
    found = getattr(holder, last)
    if is_method:
        return lambda job: found(holder(), job)
    # The name in the module is the executor that the function was made.
    function: Callable[[Job[Any, Any]], Any] = getattr(found, "function", found)
    return function
