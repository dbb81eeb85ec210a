"""Emails in lower case: nothing to do any more, b7d2e0964f15 does that.

Revision ID: 8e52f3c6d741
Revises: 4c1d7a90b2e3
"""

revision = "8e52f3c6d741"
down_revision = "4c1d7a90b2e3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing: databases remember that they have come by here."""


def downgrade() -> None:
    """Do nothing."""
