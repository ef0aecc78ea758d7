"""Where the service is: the options that every command has."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import stamina.instrumentation
from cyclopts import Parameter

from ..job import Job
from ..sync_client import Client
from ..transport import url_of

# Somebody waits: what is asked again and again for longer is not there.
_RETRY_SECONDS = 2.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Service:
    """The options of every command that speaks to a service."""

    url: Annotated[
        str | None,
        Parameter(env_var="REXECUTOR_URL", help="The service's address, http://127.0.0.1:8000 if not given."),
    ] = None
    api_key: Annotated[
        str | None, Parameter(env_var="REXECUTOR_API_KEY", help="The key, if the service asks for one.")
    ] = None
    timeout: Annotated[float, Parameter(help="How many seconds to wait for an answer.")] = 10.0
    json: Annotated[bool, Parameter(help="Print JSON, for programs.", negative=(), show_default=False)] = False

    @property
    def address(self) -> str:
        """The service's URL. Raises InvalidUrl."""
        return url_of(self.url)

    def client(self) -> Client:
        """Return a client that soon gives up."""
        be_quiet()
        return Client(self.address, api_key=self.api_key, timeout=self.timeout, retry_seconds=_RETRY_SECONDS)


HERE = Service()


def be_quiet() -> None:
    """Keep repeated calls from being logged: stdout is for data, and what came of them is told at the end."""
    stamina.instrumentation.set_on_retry_hooks([])


def members_of(job: Job) -> dict[str, Any]:
    """Return a job as JSON has it, without what only a worker's process knows."""
    members: dict[str, Any] = msgspec.to_builtins(job)
    del members["deadline"], members["revoked"]
    return members
