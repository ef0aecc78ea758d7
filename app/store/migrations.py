"""The schema's revisions: where they are, where a database stands, and how it gets to head."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from .database import migrate
from .dialects.base import DatabaseUnusable
from .tables import metadata

_PACKAGE = Path(__file__).parents[1]
# In the wheel the scripts lie inside the package, in a checkout beside it.
_SCRIPTS = next(path for path in (_PACKAGE / "alembic", _PACKAGE.parent / "alembic") if (path / "env.py").exists())


def head() -> str:
    """Return the revision that this version of the service works with."""
    return cast(str, ScriptDirectory(str(_SCRIPTS)).get_current_head())


@cache
def fits(revision: str) -> bool:
    """Tell whether this version of the service works with a schema at a revision; an empty one is none.

    A revision that it does not know is a later one, and each is made so that the version before it works on: while
    servers are replaced one by one, the old ones stay ready.
    """
    if not revision or revision == head():
        return bool(revision)
    return revision not in {each.revision for each in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}


def upgrade(url: str, revision: str = "head", *, behind_pooler: bool = False) -> None:
    """Bring a database to a revision, creating it if need be. Raises DatabaseUnusable."""
    try:
        _run(url, lambda config: command.upgrade(config, revision), behind_pooler=behind_pooler)
    except CommandError as error:
        raise DatabaseUnusable(f"cannot bring the database to {revision}: {error}") from error


def downgrade(url: str, revision: str) -> None:
    """Bring a database back to an earlier revision."""
    _run(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> None:
    """Raise alembic's error when the tables and the database's schema differ."""
    _run(url, command.check)


def current(connection: Connection) -> str | None:
    """Return the revision that a database stands at, None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def _run(url: str, action: Callable[[Config], object], *, behind_pooler: bool = False) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(_SCRIPTS))
        config.attributes["connection"] = connection
        config.attributes["metadata"] = metadata
        action(config)

    migrate(url, run, behind_pooler=behind_pooler)
