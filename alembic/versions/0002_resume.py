"""A resume gives a session a new token, and the old one stays good until the client has spoken under the new one.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("previous_resume_hash", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("leases", "previous_resume_hash")
