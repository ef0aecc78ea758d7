"""Jobs, their errors, leases and counts.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "executor_counts",
        sa.Column("executor", _NAME, nullable=False),
        sa.Column("status", _NAME, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("executor", "status"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_errors",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("error_type", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("executor", _NAME, nullable=False),
        sa.Column("status", _NAME, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("scheduled_at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("inserted_at", sa.BigInteger(), nullable=False),
        sa.Column("attempted_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("uniqueness_key", _NAME, nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_id", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("refunded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("acknowledged_fence", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_operation", sa.Text(), nullable=True),
        sa.Column("error_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("attempted_by", sa.Text(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("data_canonical", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("metadata_canonical", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "jobs_history",
        "jobs",
        ["executor", "status", "scheduled_at", "id"],
        unique=False,
        sqlite_where=sa.text("status IN ('retryable', 'complete', 'cancelled', 'discarded')"),
        postgresql_where=sa.text("status IN ('retryable', 'complete', 'cancelled', 'discarded')"),
    )
    op.create_index(
        "jobs_lease",
        "jobs",
        ["lease_id"],
        unique=False,
        sqlite_where=sa.text("lease_id IS NOT NULL"),
        postgresql_where=sa.text("lease_id IS NOT NULL"),
    )
    op.create_index(
        "jobs_ready",
        "jobs",
        ["executor", "priority", "scheduled_at", "id"],
        unique=False,
        sqlite_where=sa.text("status IN ('scheduled', 'retryable')"),
        postgresql_where=sa.text("status IN ('scheduled', 'retryable')"),
    )
    op.create_index(
        "jobs_unique",
        "jobs",
        ["uniqueness_key", "status", "scheduled_at", "id"],
        unique=False,
        sqlite_where=sa.text("uniqueness_key IS NOT NULL"),
        postgresql_where=sa.text("uniqueness_key IS NOT NULL"),
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("session", _NAME, nullable=False),
        sa.Column("executor", _NAME, nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("connected", sa.Integer(), nullable=False),
        sa.Column("resume_hash", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("leases_expires_at", "leases", ["expires_at"], unique=False)
    op.create_index("leases_session", "leases", ["session"], unique=False)


def downgrade() -> None:
    op.drop_index("leases_session", table_name="leases")
    op.drop_index("leases_expires_at", table_name="leases")
    op.drop_table("leases")
    op.drop_index(
        "jobs_unique",
        table_name="jobs",
        sqlite_where=sa.text("uniqueness_key IS NOT NULL"),
        postgresql_where=sa.text("uniqueness_key IS NOT NULL"),
    )
    op.drop_index(
        "jobs_ready",
        table_name="jobs",
        sqlite_where=sa.text("status IN ('scheduled', 'retryable')"),
        postgresql_where=sa.text("status IN ('scheduled', 'retryable')"),
    )
    op.drop_index(
        "jobs_lease",
        table_name="jobs",
        sqlite_where=sa.text("lease_id IS NOT NULL"),
        postgresql_where=sa.text("lease_id IS NOT NULL"),
    )
    op.drop_index(
        "jobs_history",
        table_name="jobs",
        sqlite_where=sa.text("status IN ('retryable', 'complete', 'cancelled', 'discarded')"),
        postgresql_where=sa.text("status IN ('retryable', 'complete', 'cancelled', 'discarded')"),
    )
    op.drop_table("jobs")
    op.drop_table("job_errors")
    op.drop_table("executor_counts")
