"""Why the server closes a stream: ONE table."""

from typing import Final

TOO_BIG: Final = 1009
RESTART: Final = 1012
OVERLOADED: Final = 1013
MALFORMED: Final = 4400
UNAUTHORIZED: Final = 4401
SILENT: Final = 4408
REPLACED: Final = 4409

CLOSE_CODES: Final[dict[int, str]] = {
    TOO_BIG: "A frame is longer than 1 MiB, holds more than 10,000 messages, or comes in more than 10,000 fragments.",
    RESTART: "The server is leaving, or the session's lease was lost. Connect again, with `resume`, to any server.",
    OVERLOADED: "The server has too much to do. Connect again later. Not sent by this version.",
    MALFORMED: "A frame is no JSON text, neither an object nor an array of objects, or binary.",
    UNAUTHORIZED: "The key is not valid any more. Not sent as long as the service knows no keys.",
    SILENT: "The client was silent for one lease, does not end a message, or does not read what it is sent.",
    REPLACED: "Another connection resumed this session.",
}
