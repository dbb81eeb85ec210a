"""Emails in lower case (7d40c92be5a1 does it).

Revision ID: 8e52f3c6d741
Revises: 4c1d7a90b2e3
"""

revision = "8e52f3c6d741"
down_revision = "4c1d7a90b2e3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing. The file stays, because databases have this revision noted."""


def downgrade() -> None:
    """Do nothing."""
