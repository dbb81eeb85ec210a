"""Users, where there are none yet (7d40c92be5a1 changes those that are there).

Revision ID: 4c1d7a90b2e3
Revises:
"""

from migrations.takeover import create_first

revision = "4c1d7a90b2e3"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, if there is none."""
    create_first()


def downgrade() -> None:
    """Do nothing."""
