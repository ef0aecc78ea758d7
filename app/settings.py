"""Settings: ``REXECUTOR_*`` in the environment, each with its unit in the name, a default, a range and a sentence."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .observability.failpoints import parse_failpoints

MIB = 1024 * 1024


class Settings(BaseSettings):
    """What the service can be told."""

    model_config = SettingsConfigDict(env_prefix="REXECUTOR_", extra="ignore", frozen=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")] = 8000
    database_url: Annotated[str, Field(description="Database, as a plain URL without a driver.")] = (
        "sqlite:///rexecutor.db"
    )
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
        int, Field(ge=1, le=1_000_000, description="Most connections at once; more are answered with 503.")
    ] = 10_000
    head_seconds: Annotated[
        float, Field(ge=0.1, le=3_600, description="How long a client may take to send the head of a request.")
    ] = 10.0
    body_seconds: Annotated[
        float,
        Field(ge=0.1, le=3_600, description="In each such period a body must end, or 64 KiB of it arrive."),
    ] = 20.0
    allowed_origins: Annotated[
        tuple[str, ...],
        Field(description="Origins whose pages may open a socket, as a JSON list; a page of our own may always."),
    ] = ()
    drain_seconds: Annotated[
        float, Field(ge=0, le=3_600, description="How long a server that leaves takes at most, its workers included.")
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

    @field_validator("failpoints")
    @classmethod
    def _check_failpoints(cls, value: str) -> str:
        parse_failpoints(value)
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _ignore_kubernetes_link(cls, value: object) -> object:
        # Where a Kubernetes service is called rexecutor, every pod gets REXECUTOR_PORT=tcp://….
        return 8000 if isinstance(value, str) and value.startswith("tcp://") else value
