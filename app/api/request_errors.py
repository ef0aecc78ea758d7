"""What is wrong with a request itself, before the service is asked."""

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One thing that is wrong in a body: where, as a JSON pointer, and what would be right. Never what was given."""

    pointer: str
    message: str


class RequestError(Exception):
    """The request cannot be served as it stands."""


class MalformedJson(RequestError):
    """The body is no JSON text in valid Unicode."""


class ValidationFailed(RequestError):
    """The request is well-formed, and something in it has a value that the service does not take."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in faults))
        self.faults = faults

    def under(self, pointer: str) -> "ValidationFailed":
        """Return the same for a document in which this one stands at the pointer."""
        return ValidationFailed(*(Fault(pointer + fault.pointer, fault.message) for fault in self.faults))


class TooDeeplyNested(ValidationFailed):
    """The body has more brackets open than any body may have."""

    def __init__(self) -> None:
        super().__init__(Fault("", "too many brackets are open at once"))


class FenceMissing(RequestError):
    """An acknowledgement came over a stream without a fence."""


class BodyTooLarge(RequestError):
    """The body is longer than its limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the body is longer than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class UnsupportedMediaType(RequestError):
    """The body is not declared to be JSON in UTF-8, as it stands on the wire."""


class ForeignOrigin(RequestError):
    """A page of another host tried to open a socket."""


class PathNotFound(RequestError):
    """Nothing is served at this path."""


class MethodNotAllowed(RequestError):
    """The path is served, but not by this method."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(f"allowed are {', '.join(allowed)}")
        self.allowed = allowed


def invalid(pointer: str, message: str) -> ValidationFailed:
    """Return the error for one wrong value."""
    return ValidationFailed(Fault(pointer, message))
