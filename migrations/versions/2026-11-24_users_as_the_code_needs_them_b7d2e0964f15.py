"""Users as the code needs them (7d40c92be5a1 does it).

Revision ID: b7d2e0964f15
Revises: 8e52f3c6d741
"""

revision = "b7d2e0964f15"
down_revision = "8e52f3c6d741"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing. The file stays, because databases have this revision noted."""


def downgrade() -> None:
    """Do nothing."""
