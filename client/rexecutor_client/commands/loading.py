"""The executors that a name such as ``my_app:executors`` means."""

import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..execution import Executor
from .exits import NotDone, UsageError

AnyExecutor = Executor[Any, Any]


def executors_of(name: str) -> list[AnyExecutor]:
    """Return the executors of ``MODULE``, or what ``MODULE:NAME`` is; modules of the working folder are found too.

    Raises UsageError when there are none, NotDone when the module itself fails.
    """
    module_name, _, attribute = name.partition(":")
    module = _module(module_name)
    if not attribute:
        return _of_module(module)
    try:
        found = getattr(module, attribute)
    except AttributeError as error:
        raise UsageError(f"module {module_name!r} has no {attribute!r}") from error
    if isinstance(found, ModuleType):
        return _of_module(found)
    many = not _is_executor(found) and isinstance(found, Iterable)
    listed = [*found] if many else [found]
    if not listed or not all(map(_is_executor, listed)):
        raise UsageError(f"{name!r} is neither an executor nor a list of executors")
    return [*map(_made, listed)]


def _module(name: str) -> ModuleType:
    # What Python itself does for a script.
    sys.path.insert(0, str(Path.cwd()))
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {error.name!r} here") from error
        raise NotDone(_failure(name, error)) from error
    except (ValueError, TypeError) as error:
        if not name.strip("."):
            raise UsageError("which module? give MODULE or MODULE:NAME") from error
        raise NotDone(_failure(name, error)) from error
    except Exception as error:
        raise NotDone(_failure(name, error)) from error


def _failure(name: str, error: Exception) -> str:
    """Return what went wrong while a module was imported, and where in it."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if "importlib" not in each.filename]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}"
    return f"module {name!r} cannot be imported: {type(error).__name__}: {error} ({where})"


def _of_module(module: ModuleType) -> list[AnyExecutor]:
    """Return all executors in a module: those made there or imported, and its own classes."""
    found = [each for each in vars(module).values() if isinstance(each, Executor)]
    classes = [each for each in vars(module).values() if _is_class(each) and each.__module__ == module.__name__]
    if not found and not classes:
        raise UsageError(f"module {module.__name__!r} has no executors")
    return [*dict.fromkeys(found), *map(_made, classes)]


def _made(found: Any) -> AnyExecutor:
    executor: AnyExecutor = found() if _is_class(found) else found
    return executor


def _is_executor(value: Any) -> bool:
    return isinstance(value, Executor) or _is_class(value)


def _is_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Executor) and hasattr(value, "name")
