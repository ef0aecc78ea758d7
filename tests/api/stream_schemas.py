"""What is wrong with a message of the stream, by the description that is served."""

from functools import lru_cache
from typing import Any

import jsonschema_rs

from app.api.asyncapi import asyncapi_document


def faults_of(message: dict[str, Any], *, kind: str | None = None) -> list[str]:
    """Hold a message against the schema of its kind; members that the schema does not have are faults too."""
    return [
        f"{fault.instance_path}: {fault.message}" for fault in _validator(kind or message["type"]).iter_errors(message)
    ]


@lru_cache(maxsize=32)
def _validator(kind: str) -> jsonschema_rs.Validator:
    document = asyncapi_document()
    schemas = {name: _closed(schema) for name, schema in document["components"]["schemas"].items()}
    reference = document["components"]["messages"][kind]["payload"]
    return jsonschema_rs.validator_for(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "components": {"schemas": schemas}},
        validate_formats=True,
    )


def _closed(node: Any) -> Any:
    """The schema with no room for members that it does not name."""
    match node:
        case {"properties": properties, **others}:
            inner = {name: _closed(schema) for name, schema in properties.items()}
            return {
                "additionalProperties": False,
                **{name: _closed(each) for name, each in others.items()},
                "properties": inner,
            }
        case dict():
            return {name: _closed(each) for name, each in node.items()}
        case list():
            return [_closed(each) for each in node]
    return node
