"""The API in OpenAPI 3.1: the routes and their docstrings, with the tables of operations and problems."""

import inspect
import json
from collections.abc import Callable, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from ..domain.errors import (
    DatabaseUnavailable,
    FenceRequired,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InsufficientStorage,
    InvalidTransition,
    JobExecuting,
    JobNotFound,
    NotReady,
    QueryTooComplex,
    StaleFence,
    VersionMismatch,
)
from ..domain.status import JobStatus
from .openapi_links import links_of
from .openapi_operations import OPERATIONS, Answer, Body, Operation
from .openapi_schemas import Schema, component_name, ref, schemas
from .problems import MEDIA_TYPE, PROBLEMS, problem_document
from .request_errors import BodyTooLarge, ForeignOrigin, MalformedJson, PathNotFound, UnsupportedMediaType, invalid
from .wire_types import EXECUTOR_PATTERN

_EXAMPLE_REQUEST_ID = "0193a5e0-1c2b-7d3e-8f4a-5b6c7d8e9f00"
_EXAMPLE_ERRORS: dict[str, Exception] = {
    "malformed-json": MalformedJson(),
    "forbidden": ForeignOrigin(),
    "not-found": PathNotFound(),
    "job-not-found": JobNotFound(42),
    "invalid-transition": InvalidTransition(42, JobStatus.COMPLETE),
    "stale-fence": StaleFence(42, JobStatus.EXECUTING),
    "job-executing": JobExecuting(42, JobStatus.EXECUTING),
    "idempotency-in-progress": IdempotencyInProgress(),
    "version-mismatch": VersionMismatch(42, 5),
    "body-too-large": BodyTooLarge(1024 * 1024),
    "unsupported-media-type": UnsupportedMediaType(),
    "validation-error": invalid("/priority", "must be an integer from 0 to 65535"),
    "query-too-complex": QueryTooComplex(),
    "idempotency-mismatch": IdempotencyMismatch(),
    "fence-required": FenceRequired(42, JobStatus.EXECUTING),
    "database-unavailable": DatabaseUnavailable(),
    "not-ready": NotReady(),
    "insufficient-storage": InsufficientStorage(),
}

_DESCRIPTION = """\
Durable background jobs as a service: enqueue over HTTP, work over WebSocket.

Errors are problems (RFC 9457), `application/problem+json`; their `type` leads to a page that explains them. Every
answer bears `X-Request-Id`. Times are RFC 3339; durations are ISO 8601 (`"PT2M"`) or a number of seconds. Clients
ignore members that they don't know.

## The stream

Workers get jobs over a WebSocket at `/v1/executors/{executor}/subscribe`, subprotocol `rexecutor.v1`: they say how many
they want, acknowledge each one, and are told when one is no longer theirs. The messages are described at
[/asyncapi](asyncapi).
"""
_TAGS = [
    {"name": "jobs", "description": "Bring jobs, look at them, change them."},
    {
        "name": "acknowledgements",
        "description": "What a worker or an operator says of a job. With a `fence` the call acts only while the job is "
        "held under it; without, it is the operator's word. Repeating one is safe.",
    },
    {"name": "executors", "description": "Kinds of workers, and how they get their jobs."},
    {"name": "service", "description": "The service itself."},
]
PARAMETERS: dict[str, Schema] = {
    "id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "format": "int64"}},
    "executor": {
        "name": "executor",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{EXECUTOR_PATTERN}$"},
        "example": "send_email",
    },
    "slug": {"name": "slug", "in": "path", "required": True, "schema": {"type": "string", "enum": list(PROBLEMS)}},
    "worker": {
        "name": "worker",
        "in": "query",
        "description": "A name for people.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "prefetch": {
        "name": "prefetch",
        "in": "query",
        "description": "Credits to start with; each job that is no longer held gives one back.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10_000, "default": 0},
    },
    "batch": {
        "name": "batch",
        "in": "query",
        "description": "Whether the server may send several messages in a frame, as a list.",
        "schema": {"type": "boolean", "default": False},
    },
    "resume": {
        "name": "resume",
        "in": "query",
        "description": "The token of the `hello` of a connection that was lost.",
        "schema": {"type": "string"},
    },
    "If-Match": {
        "name": "If-Match",
        "in": "header",
        "description": 'ETags of which the job must have one, such as `"4"`, or `*`.',
        "schema": {"type": "string"},
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes the request safe to repeat: for 24 hours the same key with the same body, byte for byte, "
        "changes nothing and gets the first answer again. A new key for each new request, such as a UUID.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "example": "0193a5e0-1c2b-7d3e-8f4a-5b6c7d8e9f00",
    },
}
_HEADERS: dict[str, Schema] = {
    "ETag": {"description": "The job's `version`, in quotes.", "schema": {"type": "string"}, "example": '"4"'},
    "Location": {"description": "Where the job stands.", "schema": {"type": "string"}, "example": "/v1/jobs/42"},
    "Idempotency-Replayed": {
        "description": "Stands there when an earlier request with the same key got this answer.",
        "schema": {"const": "true"},
    },
    "X-Request-Id": {"description": "The request's id, as in the log.", "schema": {"type": "string", "format": "uuid"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}


def render(app: FastAPI) -> str:
    """Return the document as text, as it stands in ``openapi/openapi.json``."""
    return json.dumps(openapi_document(app), indent=2, ensure_ascii=False) + "\n"


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the description of the application's routes, in their order."""
    paths: dict[str, dict[str, Any]] = {}
    for route in app.routes:
        if isinstance(route, APIWebSocketRoute) and route.name in OPERATIONS:
            paths.setdefault(route.path, {})["get"] = _operation(route.name, ["executors"], route.endpoint)
        elif isinstance(route, APIRoute) and route.include_in_schema:
            for method in sorted(route.methods or ()):
                operation_id = route.operation_id or route.name
                paths.setdefault(route.path, {})[method.lower()] = _operation(operation_id, route.tags, route.endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": app.title,
            "version": app.version,
            "description": _DESCRIPTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": _TAGS,
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "headers": _HEADERS,
            "examples": {slug: _problem_example(slug, error) for slug, error in _EXAMPLE_ERRORS.items()},
        },
    }


def _operation(operation_id: str, tags: Sequence[str | Enum], endpoint: Callable[..., Any]) -> dict[str, Any]:
    operation = OPERATIONS[operation_id]
    summary, _, description = inspect.cleandoc(endpoint.__doc__ or "").partition("\n")
    document: dict[str, Any] = {"operationId": operation_id, "tags": list(tags), "summary": summary.rstrip(".")}
    document["description"] = " ".join(description.split()) or summary
    if operation.parameters:
        document["parameters"] = [PARAMETERS[name] for name in operation.parameters]
    if operation.body is not None:
        document["requestBody"] = _request_body(operation.body)
    document["responses"] = _responses(operation, links_of(operation_id))
    return document


def _request_body(body: Body) -> dict[str, Any]:
    return {
        "required": not body.is_optional,
        "content": {
            "application/json": {
                "schema": ref(component_name(body.kind)),
                "examples": {name: {"value": value} for name, value in body.examples.items()},
            }
        },
    }


def _responses(operation: Operation, links: dict[str, Any]) -> dict[str, Any]:
    responses = {str(status): _answer(answer) for status, answer in operation.answers.items()}
    if links:
        responses = {status: {**answer, "links": links} for status, answer in responses.items()}
    statuses = sorted({PROBLEMS[slug].status for slug in operation.problems})
    for status in statuses:
        responses[str(status)] = _problem(
            status, [slug for slug in operation.problems if PROBLEMS[slug].status == status]
        )
    return responses


def _answer(answer: Answer) -> dict[str, Any]:
    document: dict[str, Any] = {"description": answer.description, "headers": _headers(*answer.headers)}
    if answer.media_type is not None:
        content: dict[str, Any] = {"schema": {"type": "string"} if answer.schema is None else ref(answer.schema)}
        if answer.example is not None:
            content["example"] = answer.example
        document["content"] = {answer.media_type: content}
    return document


def _problem(status: int, slugs: list[str]) -> dict[str, Any]:
    examples = {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs}
    return {
        "description": " Or: ".join(PROBLEMS[slug].meaning for slug in slugs),
        "headers": _headers(*(["Retry-After"] if status == HTTPStatus.SERVICE_UNAVAILABLE else [])),
        "content": {MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}},
    }


def _problem_example(slug: str, error: Exception) -> dict[str, Any]:
    return {"summary": PROBLEMS[slug].title, "value": problem_document(error, _EXAMPLE_REQUEST_ID)[1]}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}
