"""Users with indexes for lists (7d40c92be5a1 does it).

Revision ID: c05d1e7b8a42
Revises: 3fa81c6d20e7
"""

revision = "c05d1e7b8a42"
down_revision = "3fa81c6d20e7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing. The file stays, because databases have this revision noted."""


def downgrade() -> None:
    """Do nothing."""
