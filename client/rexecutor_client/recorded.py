"""What is recorded of a failure: its type and what there is to say, in a form and of a length that can be sent."""

import traceback

from .job import ExecutionError
from .results import Cancel, Discard, Reason, Retry

_TRACEBACK_CHARACTERS = 16_000
_MESSAGE_CHARACTERS = 65_536
"""The service keeps no more; a message must fit into one frame however it is escaped."""
_TYPE_CHARACTERS = 128


def reason_of(result: Retry | Cancel | Discard) -> ExecutionError:
    """Return what is recorded of a result."""
    if isinstance(result, Retry):
        return recorded(result.error, "retry")
    return recorded(result.reason, "cancelled" if isinstance(result, Cancel) else "discarded")


def recorded(reason: Reason, error_type: str) -> ExecutionError:
    """Return what is recorded of a reason; of a text, under this type."""
    if isinstance(reason, BaseException):
        return error_of(reason)
    error = reason if isinstance(reason, ExecutionError) else ExecutionError(error_type, str(reason))
    return ExecutionError(
        _sendable(str(error.error_type))[:_TYPE_CHARACTERS], _sendable(str(error.message))[:_MESSAGE_CHARACTERS]
    )


def error_of(error: BaseException) -> ExecutionError:
    """Return the class of an exception, and its traceback: of a long one the end, where it happened."""
    text = "".join(traceback.format_exception(error)).strip()
    return ExecutionError(type(error).__name__, _sendable(text[-_TRACEBACK_CHARACTERS:]))


def _sendable(text: str) -> str:
    """Return the text without halves of characters, as names of files may have them."""
    return text.encode(errors="replace").decode()
