"""Which page may reach the service: a browser lets every page send what needs no question first, a socket too."""

from collections.abc import Collection

from .request_errors import ForeignOrigin

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_origin(origin: str | None, host: str, allowed: Collection[str]) -> None:
    """Refuse a page of another host. Raises ForeignOrigin, for an opaque origin (``null``) too.

    Schemes are not compared: behind a proxy that ends TLS the service does not know its own.
    """
    if origin is not None and origin not in allowed and not _is_own(origin.lower(), host.lower()):
        raise ForeignOrigin


def _is_own(origin: str, host: str) -> bool:
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    return port is not None and authority != "" and authority.removesuffix(port) == host.removesuffix(port)
