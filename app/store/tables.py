"""The tables and their indexes.

Instants are integer microseconds UTC, JSON is text: both databases keep and compare the same. There are few indexes,
since three cost a bulk insert most of its speed: a job that waits stands in one of them, an executing or finished one
in another.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text
from sqlmodel import Field, SQLModel

READY_PREDICATE = "status IN ('scheduled', 'retryable')"
HISTORY_PREDICATE = "status IN ('retryable', 'complete', 'cancelled', 'discarded')"

_Id = BigInteger().with_variant(Integer, "sqlite")
# Compared by their bytes on both: in order, and in PostgreSQL faster than by the rules of a language.
_Name = Text().with_variant(Text(collation="C"), "postgresql")


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class JobRow(SQLModel, table=True):
    """One job."""

    __tablename__ = "jobs"
    __table_args__ = (
        # Claim and next wake: for each priority in use, its due rows.
        _partial("jobs_ready", "executor", "priority", "scheduled_at", "id", where=READY_PREDICATE),
        # Rescue: from an expired lease to its jobs.
        _partial("jobs_lease", "lease_id", where="lease_id IS NOT NULL"),
        # Unique lookups without a key, among jobs that were tried before.
        _partial("jobs_history", "executor", "status", "scheduled_at", "id", where=HISTORY_PREDICATE),
        # Unique lookups with a key.
        _partial("jobs_unique", "uniqueness_key", "status", "scheduled_at", "id", where="uniqueness_key IS NOT NULL"),
        # Ids are never used twice, not even after a prune: a stale fence must not meet another job.
        {"sqlite_autoincrement": True},
    )

    id: int = Field(sa_column=Column(_Id, primary_key=True, autoincrement=True))
    executor: str = Field(sa_column=Column(_Name, nullable=False))
    status: str = Field(sa_column=Column(_Name, nullable=False))
    priority: int = Field(sa_column=Column(Integer, nullable=False))
    scheduled_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    max_attempts: int = Field(sa_column=Column(Integer, nullable=False))
    inserted_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempted_at: int | None = Field(sa_column=Column(BigInteger))
    finished_at: int | None = Field(sa_column=Column(BigInteger))
    uniqueness_key: str | None = Field(sa_column=Column(_Name))
    """JSON text: ``"7"`` is not ``7``."""
    fence: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    lease_id: int | None = Field(sa_column=Column(BigInteger))
    version: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=text("1")))
    refunded: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    acknowledged_fence: int | None = Field(sa_column=Column(BigInteger))
    acknowledged_operation: str | None = Field(sa_column=Column(Text))
    error_count: int = Field(sa_column=Column(Integer, nullable=False, server_default=text("0")))
    # What may be long comes last: SQLite reads a row from its start.
    tags: str = Field(sa_column=Column(Text, nullable=False))
    attempted_by: str = Field(sa_column=Column(Text, nullable=False, server_default=text("'[]'")))
    data: str = Field(sa_column=Column(Text, nullable=False))
    data_canonical: str | None = Field(sa_column=Column(Text))
    """Where ``data`` has integral doubles: the text that queries compare."""
    job_metadata: str = Field(sa_column=Column("metadata", Text, nullable=False))
    metadata_canonical: str | None = Field(sa_column=Column(Text))


class JobErrorRow(SQLModel, table=True):
    """One recorded error of a job; ``number`` counts from 1."""

    __tablename__ = "job_errors"
    __table_args__ = ({"sqlite_with_rowid": False},)

    job_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False))
    error_type: str = Field(sa_column=Column(Text, nullable=False))
    details: str = Field(sa_column=Column(Text, nullable=False))
    recorded_at: int = Field(sa_column=Column(BigInteger, nullable=False))


class LeaseRow(SQLModel, table=True):
    """Until when a session holds its jobs."""

    __tablename__ = "leases"
    __table_args__ = (
        Index("leases_expires_at", "expires_at"),
        Index("leases_session", "session"),
        {"sqlite_autoincrement": True},
    )

    id: int = Field(sa_column=Column(_Id, primary_key=True, autoincrement=True))
    session: str = Field(sa_column=Column(_Name, nullable=False))
    executor: str = Field(sa_column=Column(_Name, nullable=False))
    worker: str = Field(sa_column=Column(Text, nullable=False))
    owner: str = Field(sa_column=Column(Text, nullable=False))
    """The server process that the session is connected to."""
    connected: int = Field(sa_column=Column(Integer, nullable=False))
    resume_hash: str | None = Field(sa_column=Column(Text))
    expires_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    previous_resume_hash: str | None = Field(sa_column=Column(Text))
    """The token before the last resume: good until the client has spoken on its new connection."""


class IdempotencyKeyRow(SQLModel, table=True):
    """The answer to a call that its caller may repeat, kept in the transaction of its change.

    Ids rise with time, so the oldest rows are found without an index on ``expires_at``.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_key", "scope", "key", unique=True),)

    id: int = Field(sa_column=Column(_Id, primary_key=True, autoincrement=True))
    scope: str = Field(sa_column=Column(_Name, nullable=False))
    key: str = Field(sa_column=Column(_Name, nullable=False))
    body_hash: str = Field(sa_column=Column(Text, nullable=False))
    expires_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    answer: str = Field(sa_column=Column(Text, nullable=False))


class ExecutorCountRow(SQLModel, table=True):
    """How many jobs of an executor have a status, kept in the transaction of each change."""

    __tablename__ = "executor_counts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    executor: str = Field(sa_column=Column(_Name, primary_key=True))
    status: str = Field(sa_column=Column(_Name, primary_key=True))
    count: int = Field(sa_column=Column(BigInteger, nullable=False))


metadata = SQLModel.metadata

# On PostgreSQL many processes count at once, and none may wait for another: each transaction appends what it changes,
# and a loop adds that to the counts.
executor_count_deltas = Table(
    "executor_count_deltas",
    metadata,
    Column("executor", _Name, nullable=False),
    Column("status", _Name, nullable=False),
    Column("count", BigInteger, nullable=False),
    info={"only": "postgresql"},
)

# On PostgreSQL a job may be taken from a connection that is another server's: it reads its notices and deletes them.
notices = Table(
    "notices",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("owner", _Name, nullable=False),
    Column("lease_id", BigInteger, nullable=False),
    Column("job_id", BigInteger),
    Column("fence", BigInteger),
    Column("reason", Text),
    Column("new_lease_id", BigInteger),
    Column("inserted_at", BigInteger, nullable=False),
    Index("notices_owner", "owner", "id"),
    info={"only": "postgresql"},
)

# On PostgreSQL one of many servers does what is to be done once; on SQLite there is only one.
leaders = Table(
    "leaders",
    metadata,
    Column("name", _Name, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    info={"only": "postgresql"},
)
