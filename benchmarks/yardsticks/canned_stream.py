"""A stream of ready-made frames: jobs by the thousand, and their results for whatever comes back.

It shows what the worker can do by itself. The first argument says how many jobs there are.
"""

import asyncio
import sys
from typing import cast

import uvloop
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ..load.payload import EXECUTOR, data_of, priority_of
from .listening import serve_until_signal

_JOBS_A_FRAME = 1_000
_TIME = "2026-11-24T08:00:00.000000Z"


class CannedStream(asyncio.Protocol):
    """Sends the next thousand jobs, and for each frame that comes the results of the jobs before."""

    def __init__(self, frames: list[tuple[bytes, bytes]]) -> None:
        """Send these pairs of jobs and results."""
        self._frames = frames
        self._protocol = ServerProtocol(max_size=None)
        self._answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Accept the upgrade; answer frames."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
                self._write(b"".join(self._protocol.data_to_send()))
                self._write(_serialized('[{"type":"hello"}]'))
                self._write(self._frames[0][0])
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._write(self._frames[self._answered][1])
                self._answered += 1
                if self._answered < len(self._frames):
                    self._write(self._frames[self._answered][0])

    def _write(self, data: bytes) -> None:
        self._transport.write(data)


def frames_of(jobs: int) -> list[tuple[bytes, bytes]]:
    """Return the frames with which the jobs and their results go out."""
    parts = [range(start, min(start + _JOBS_A_FRAME, jobs)) for start in range(0, jobs, _JOBS_A_FRAME)]
    return [(_array(map(_job, part)), _array(map(_result, part))) for part in parts]


def _array(messages: "map[str]") -> bytes:
    return _serialized(f"[{','.join(messages)}]")


def _serialized(text: str) -> bytes:
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


def _job(n: int) -> str:
    return (
        f'{{"type":"job","job":{{"id":{n + 1},"executor":"{EXECUTOR}","status":"executing","data":{data_of(n)},'
        f'"metadata":null,"attempt":1,"max_attempts":5,"priority":{priority_of(n)},"tags":[],"errors":[],'
        f'"error_count":0,"inserted_at":"{_TIME}","scheduled_at":"{_TIME}","attempted_at":"{_TIME}",'
        '"completed_at":null,"cancelled_at":null,"discarded_at":null,"attempted_by":["bench"],"uniqueness_key":null,'
        f'"fence":1,"lease_expires_at":"{_TIME}","version":2}}}}'
    )


def _result(n: int) -> str:
    return f'{{"type":"result","ref":"{n + 1}","id":{n + 1},"ok":true,"status":"complete","duplicate":false}}'


if __name__ == "__main__":
    ready_made = frames_of(int(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_signal(lambda: CannedStream(ready_made)))
