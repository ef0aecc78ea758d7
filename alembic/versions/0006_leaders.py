"""Which server over one PostgreSQL does what is to be done once. Servers before this revision never ask.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "leaders",
            sa.Column("name", sa.Text(collation="C"), nullable=False),
            sa.Column("holder", sa.Text(), nullable=False),
            sa.Column("term", sa.BigInteger(), nullable=False),
            sa.Column("expires_at", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("name"),
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_table("leaders")
