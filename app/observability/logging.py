"""Logs: one event a line with a fixed name, JSON for machines, colours on a terminal.

Event names are ``noun.verb_past``; facts are keys. Never data, metadata or keys of jobs: tracebacks show no variables.
"""

import logging
import re
import sys
from io import StringIO
from typing import Any, TextIO

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

from ..domain.errors import DatabaseUnavailable

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, what ends a line or turns its direction, and halves of characters."""


def configure_logging(level: str = "INFO", *, json: bool | None = None) -> None:
    """Send all logs to standard error, those of libraries too; JSON unless that is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # JSON escapes by itself whatever a terminal would obey.
    renderer: list[Processor] = (
        [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), JSONRenderer()]
        if as_json
        else [
            _escape,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_traceback),
        ]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def get_logger() -> FilteringBoundLogger:
    """Return the logger."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Let no text, whoever wrote it, end its line or command a terminal."""
    return {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _write_traceback(file: TextIO, exception: ExcInfo) -> None:
    """Write a traceback indented: a message in it cannot pass for an event."""
    plain = StringIO()
    structlog.dev.plain_traceback(plain, exception)
    file.writelines(f"\n    {_printable(line)}" for line in plain.getvalue().strip("\n").split("\n"))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def cause(error: Exception) -> dict[str, Any]:
    """Return what a log says of an error: its traceback, but for a database that is away, which all run into."""
    return {"reason": str(error)} if isinstance(error, DatabaseUnavailable) else {"exc_info": error}
