"""What each child process does first and last: read its order, run it, print what came of it as one line of JSON."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import uvloop
from msgspec import Struct

Order = TypeVar("Order", bound=Struct)


def order_of(kind: type[Order]) -> Order:
    """Return the order that stands in the first argument."""
    return msgspec.json.decode(sys.argv[1], type=kind)


def run(kind: type[Order], work: Callable[[Order], Coroutine[Any, Any, object]]) -> None:
    """Do the ordered work on uvloop and print its result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tell(runner.run(work(order_of(kind))))


def tell(result: object) -> None:
    """Print one line of JSON."""
    print(msgspec.json.encode(result).decode(), flush=True)
