"""Users: nothing to do any more, b7d2e0964f15 does it for whatever table is there.

Revision ID: 4c1d7a90b2e3
Revises:
"""

revision = "4c1d7a90b2e3"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing: databases remember that they have come by here."""


def downgrade() -> None:
    """Do nothing."""
