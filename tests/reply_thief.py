"""A TCP proxy before PostgreSQL that swallows the reply to one statement and breaks the connection, as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import make_url

_READY_FOR_QUERY = b"Z"


class ReplyThief:
    """Forwards to a PostgreSQL; each reply that :meth:`steal` names is read to its end, and never arrives."""

    def __init__(self, url: str) -> None:
        """Stand before the server of this URL."""
        self._target = make_url(url)
        self._wanted: list[tuple[str, Theft]] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """The database as it is reached through here, in clear."""
        through = self._target.set(host="127.0.0.1", port=self._port, query={"sslmode": "disable"})
        return through.render_as_string(hide_password=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ReplyThief"]:
        """Listen, and cut all connections at the end."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    def steal(self, part: str) -> asyncio.Future[None]:
        """Swallow the reply to the next statement with this part in its text; return when that is done.

        By then the server has done what the statement says: a transaction that it ends is durable.
        """
        return self._want(part, is_late=False).done

    def make_late(self, part: str) -> "Theft":
        """Break the connection at the next such statement, which is handed on only when that is let."""
        return self._want(part, is_late=True)

    def take(self, statement: str) -> "Theft | None":
        """Return what waits for this statement, and wait for it no more."""
        for index, (part, theft) in enumerate(self._wanted):
            if part in statement:
                del self._wanted[index]
                return theft
        return None

    def _want(self, part: str, *, is_late: bool) -> "Theft":
        theft = Theft(is_late)
        self._wanted.append((part, theft))
        return theft

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(self._target.host, self._target.port)
        link = _Link(self, writer)
        tasks = [
            asyncio.create_task(link.forward_statements(reader, onward_writer)),
            asyncio.create_task(link.forward_replies(onward_reader, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            onward_writer.transport.abort()


class Theft:
    """A reply that does not arrive, or a statement that arrives late."""

    def __init__(self, is_late: bool) -> None:
        self.is_late = is_late
        self.begun = asyncio.Event()
        self.let = asyncio.Event()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Link:
    """One connection, its statements understood as far as is needed."""

    def __init__(self, thief: ReplyThief, client: asyncio.StreamWriter) -> None:
        self._thief = thief
        self._client = client
        self._statements: dict[bytes, str] = {}
        self._theft: Theft | None = None

    async def forward_statements(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await _message(reader, with_kind=False))  # the start
            while True:
                message = await _message(reader)
                self._look_at(message[:1], message[5:])
                if self._theft is not None and self._theft.is_late:
                    self._client.transport.abort()
                    self._theft.begun.set()
                    await self._theft.let.wait()
                writer.write(message)
                await writer.drain()
        if self._theft is not None:
            await self._theft.done

    def _look_at(self, kind: bytes, body: bytes) -> None:
        match kind:
            case b"Q":
                self._theft = self._theft or self._thief.take(body[:-1].decode())
            case b"P":
                name, statement, _ = body.split(b"\0", 2)
                self._statements[name] = statement.decode()
            case b"B":
                _, name, _ = body.split(b"\0", 2)
                self._theft = self._theft or self._thief.take(self._statements[name])

    async def forward_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                message = await _message(reader)
                if self._theft is None:
                    writer.write(message)
                    await writer.drain()
                elif message[:1] == _READY_FOR_QUERY:
                    self._theft.done.set_result(None)
                    return


async def _message(reader: asyncio.StreamReader, *, with_kind: bool = True) -> bytes:
    head = await reader.readexactly(5 if with_kind else 4)
    return head + await reader.readexactly(int.from_bytes(head[-4:], "big") - 4)
