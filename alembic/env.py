"""Runs revisions on the connection that the service hands over."""

from alembic import context

config = context.config


def _exists_here(thing, _name, _kind, _reflected, _compared_to):
    """Tell whether what the tables declare is there on this database."""
    return thing.info.get("only", context.get_bind().dialect.name) == context.get_bind().dialect.name


context.configure(
    connection=config.attributes["connection"],
    target_metadata=config.attributes["metadata"],
    # SQLite changes tables by copying them.
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
    include_object=_exists_here,
)
with context.begin_transaction():
    context.run_migrations()
