"""Counts on PostgreSQL: each transaction appends what it changes.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "executor_count_deltas",
            sa.Column("executor", sa.Text(collation="C"), nullable=False),
            sa.Column("status", sa.Text(collation="C"), nullable=False),
            sa.Column("count", sa.BigInteger(), nullable=False),
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # What was not yet added up: a revision before this one knows the counts only.
        op.execute(
            "INSERT INTO executor_counts (executor, status, count)"
            " SELECT executor, status, sum(count) FROM executor_count_deltas GROUP BY executor, status"
            " ON CONFLICT (executor, status) DO UPDATE SET count = executor_counts.count + excluded.count"
        )
        op.drop_table("executor_count_deltas")
