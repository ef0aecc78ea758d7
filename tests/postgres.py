"""A PostgreSQL for tests: one cluster a test run, from a wheel, and a database a test.

``REXECUTOR_TEST_POSTGRES_URL`` names a server to use instead; its user must be allowed to make databases.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from sqlalchemy import make_url

from app.store import migrations
from app.store.tables import metadata
from tests.cluster import LIGHT, apart, own_cluster, run

__all__ = ["Server", "empty", "run", "running_server"]

_TEMPLATE = "rexecutor_template"


class Server:
    """A PostgreSQL that runs; makes empty databases, and drops them."""

    def __init__(self, url: str) -> None:
        """Use the server at this URL."""
        self.url = url
        self._numbers = count()
        self._prefix = f"rexecutor_test_{os.getpid()}"
        self._has_template = False

    @contextmanager
    def database(self, *, schema: bool = True) -> Iterator[str]:
        """The URL of a database of its own, its schema at head unless it is to be empty."""
        name = f"{self._prefix}_{next(self._numbers)}"
        if schema and not self._has_template:
            run(self.url, f'CREATE DATABASE "{self._template}"')
            apart(lambda: migrations.upgrade(self.url_of(self._template)))
            self._has_template = True
        run(self.url, f'CREATE DATABASE "{name}" TEMPLATE "{self._template if schema else "template0"}"')
        try:
            yield self.url_of(name)
        finally:
            run(self.url, f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Drop what all databases were made of."""
        run(self.url, f'DROP DATABASE IF EXISTS "{self._template}"')

    def url_of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    @property
    def _template(self) -> str:
        return f"{self._prefix}_{_TEMPLATE}"


@contextmanager
def running_server() -> Iterator[Server]:
    """The server that the environment names, or a cluster of its own."""
    given = os.environ.get("REXECUTOR_TEST_POSTGRES_URL")
    if given:
        server = Server(given)
        yield server
        server.close()
        return
    with own_cluster(LIGHT) as cluster:
        yield Server(cluster.url)


def empty(url: str) -> None:
    """Leave no row in a database that is in use, and let ids begin anew."""
    run(url, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")
