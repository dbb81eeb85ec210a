"""Users as the code needs them (7d40c92be5a1 does it).

Revision ID: 3fa81c6d20e7
Revises: b7d2e0964f15
"""

revision = "3fa81c6d20e7"
down_revision = "b7d2e0964f15"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing. The file stays, because databases have this revision noted."""


def downgrade() -> None:
    """Do nothing."""
