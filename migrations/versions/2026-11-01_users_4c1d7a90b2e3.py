"""Users (7d40c92be5a1 does it).

Revision ID: 4c1d7a90b2e3
Revises:
"""

revision = "4c1d7a90b2e3"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing. The file stays, because databases have this revision noted."""


def downgrade() -> None:
    """Do nothing."""
