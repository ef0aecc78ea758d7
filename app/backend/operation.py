"""What surrounds every call of the contract: drivers' errors become the contract's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..domain.errors import BackendError


@contextmanager
def operation(translate: Callable[[Exception], BackendError | None]) -> Iterator[None]:
    """Raise what a driver's error means instead of it; anything else goes on as it is."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        meaning = translate(error)
        if meaning is None:
            raise
        raise meaning from error
