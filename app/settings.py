"""Settings: ``REXECUTOR_*`` in the environment, each with its unit in the name, a default, a range and a sentence."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .observability.failpoints import parse_failpoints

MIB = 1024 * 1024
_PREFIX = "REXECUTOR_"
# For each service called rexecutor or rexecutor-… every pod of its namespace gets these.
_KUBERNETES_LINK = re.compile(
    r"REXECUTOR_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")
# What the client reads from the same environment.
_CLIENTS = {"URL", "API_KEY"}


class Settings(BaseSettings):
    """What the service can be told."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")] = 8000
    database_url: Annotated[
        str, Field(description="Database, as a plain URL without a driver: `sqlite:///…` or `postgresql://…`.")
    ] = "sqlite:///rexecutor.db"
    pooler: Annotated[
        Literal["none", "transaction"],
        Field(description="What stands before PostgreSQL: `transaction` for a pooler like pgbouncer in that mode."),
    ] = "none"
    reserve_bytes: Annotated[
        int,
        Field(
            ge=0, le=1_024 * MIB, description="Room kept free for what must go on when the disk is full; 0 for none."
        ),
    ] = 16 * MIB
    migrate: Annotated[bool, Field(description="Whether `serve` brings the schema to head first.")] = True
    lease_seconds: Annotated[
        float, Field(ge=0.5, le=3_600, description="How long a worker that gives no sign of life keeps its jobs.")
    ] = 30.0
    require_fence: Annotated[
        bool, Field(description="Whether to refuse unfenced complete, retry, discard and snooze on an executing job.")
    ] = False
    max_request_bytes: Annotated[int, Field(ge=1_024, le=64 * MIB, description="Largest body of a request.")] = MIB
    max_bulk_bytes: Annotated[int, Field(ge=1_024, le=1_024 * MIB, description="Largest body of a bulk enqueue.")] = (
        32 * MIB
    )
    max_bulk_jobs: Annotated[int, Field(ge=1, le=100_000, description="Most jobs in a bulk enqueue.")] = 10_000
    max_payload_bytes: Annotated[
        int, Field(ge=1_024, le=512 * 1024, description="Largest data and metadata of a job together, as compact JSON.")
    ] = 512 * 1024
    max_connections: Annotated[
        int, Field(ge=1, le=1_000_000, description="Most connections at once; 64 more get 503, the rest a reset.")
    ] = 10_000
    head_seconds: Annotated[
        float, Field(ge=0.1, le=3_600, description="How long a client may take to send the head of a request.")
    ] = 10.0
    body_seconds: Annotated[
        float,
        Field(
            ge=0.1, le=3_600, description="In each such period a body or a message must end, or 64 KiB of it arrive."
        ),
    ] = 20.0
    allowed_origins: Annotated[
        tuple[str, ...],
        Field(description="Origins whose pages may open a socket, as a JSON list; a page of our own may always."),
    ] = ()
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="How long a server that leaves takes at most, its workers included; it has 5 in any case.",
        ),
    ] = 25.0
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Field(description="Least severe level to log.")
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "json", "console"],
        Field(description="Format of logs; auto is console on a terminal, else JSON."),
    ] = "auto"

    failpoints: Annotated[
        str, Field(description="For tests of crashes only: where to exit, as in `insert_jobs.before_commit=exit@3`.")
    ] = ""

    @property
    def is_behind_pooler(self) -> bool:
        """Whether each transaction may meet another connection of the database."""
        return self.pooler == "transaction"

    @field_validator("failpoints")
    @classmethod
    def _check_failpoints(cls, value: str) -> str:
        parse_failpoints(value)
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_kubernetes_link(cls, value: object) -> object:
        # Where a Kubernetes service is called rexecutor, every pod gets REXECUTOR_PORT=tcp://….
        return 8000 if isinstance(value, str) and _KUBERNETES_URL.match(value) else value


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that look like settings and are none, each with the setting that was probably meant."""
    known = [name.upper() for name in Settings.model_fields]
    unknown: dict[str, str | None] = {}
    for variable, value in environment.items():
        name = variable.upper().removeprefix(_PREFIX)
        if variable.upper() != name and name not in {*known, *_CLIENTS} and not _is_kubernetes_link(variable, value):
            nearest = get_close_matches(name, known, n=1, cutoff=0.5)
            unknown[variable] = _PREFIX + nearest[0] if nearest else None
    return unknown


def _is_kubernetes_link(name: str, value: str) -> bool:
    return bool(_KUBERNETES_LINK.fullmatch(name) or (name.endswith("_PORT") and _KUBERNETES_URL.match(value)))
