"""What surrounds every call of the contract: drivers' errors become the contract's."""

from collections.abc import Callable
from types import TracebackType

from ..domain.errors import BackendError


class Guarded:
    """A context that raises what a driver's error means instead of it; anything else goes on as it is.

    A class, since a generator would cost each call of the hot path four times as much.
    """

    __slots__ = ("_translate",)

    def __init__(self, translate: Callable[[Exception], BackendError | None]) -> None:
        """Ask ``translate`` what an error means."""
        self._translate = translate

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Raise the meaning of a driver's error."""
        if isinstance(error, Exception) and not isinstance(error, BackendError):
            meaning = self._translate(error)
            if meaning is not None:
                raise meaning from error
