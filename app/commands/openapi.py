"""The descriptions of the API as files: generated, checked in, compared by CI."""

import sys
from pathlib import Path

from ..api import asyncapi, openapi
from ..main import create_app
from ..settings import Settings


def write_files(folder: Path) -> int:
    """Write the documents; return the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _documents().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def check_files(folder: Path) -> int:
    """Return 0 if the files are what would be written, else 1."""
    stale = [folder / name for name, text in _documents().items() if _text_of(folder / name) != text]
    for path in stale:
        print(f"{path} is not what the service answers: run `rexecutor openapi`", file=sys.stderr)
    return 1 if stale else 0


def _documents() -> dict[str, str]:
    return {"openapi.json": openapi.render(create_app(Settings())), "asyncapi.json": asyncapi.render()}


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
