"""What servers over one PostgreSQL tell each other of jobs and sessions that were taken from them.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "notices",
            sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
            sa.Column("owner", sa.Text(collation="C"), nullable=False),
            sa.Column("lease_id", sa.BigInteger(), nullable=False),
            sa.Column("job_id", sa.BigInteger(), nullable=True),
            sa.Column("fence", sa.BigInteger(), nullable=True),
            sa.Column("reason", sa.Text(), nullable=True),
            sa.Column("new_lease_id", sa.BigInteger(), nullable=True),
            sa.Column("inserted_at", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("id"),
        )
        op.create_index("notices_owner", "notices", ["owner", "id"], unique=False)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("notices_owner", table_name="notices")
        op.drop_table("notices")
