"""The OpenAPI document as a file: generated, checked in, compared by CI."""

import sys
from pathlib import Path

from ..api.openapi import render
from ..main import create_app
from ..settings import Settings


def write_file(path: Path) -> int:
    """Write the document; return the exit status."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(create_app(Settings())), encoding="utf-8")
    return 0


def check_file(path: Path) -> int:
    """Return 0 if the file is what would be written, else 1."""
    if path.exists() and path.read_text(encoding="utf-8") == render(create_app(Settings())):
        return 0
    print(f"{path} is not what the service answers: run `rexecutor openapi`", file=sys.stderr)
    return 1
