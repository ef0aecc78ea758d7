"""Runs functions that keep a processor busy in processes of their own."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from typing import Any

from .job import Job


def new_pool(processes: int | None) -> Pool:
    """Return a pool of so many processes, else one for each processor; none is forked from a program with threads."""
    return ProcessPoolExecutor(processes or os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


async def call_in_process(pool: Pool, owner: object, function: Callable[..., Any], job: Job[Any, Any]) -> Any:
    """Call an executor's function in the pool; it is found there by its name, as in any module that is imported."""
    module, name = function.__module__, function.__qualname__
    if "<locals>" in name:
        raise TypeError(f"{name} is no function of a module: a process of its own would not find it")
    is_method = getattr(function, "__self__", None) is owner
    return await asyncio.get_running_loop().run_in_executor(pool, _call, module, name, is_method, job)


def _call(module: str, name: str, is_method: bool, job: Job[Any, Any]) -> Any:  # noqa: FBT001 - a pool passes no names
    home = sys.modules.get(module) or import_module(module)
    *path, last = name.split(".")
    holder: Any = home
    for each in path:
        holder = getattr(holder, each)
    found = getattr(holder, last)
    if is_method:
        return found(holder(), job)
    # The name in the module is the executor that the function was made.
    return getattr(found, "function", found)(job)
