"""Indexes for every order of a list, for those few who are inactive, and for searches.

Revision ID: b7d2e0964f15
Revises: 8e52f3c6d741
"""

import sqlalchemy as sa
from alembic import op

from core.tables import create_search_index

revision = "b7d2e0964f15"
down_revision = "8e52f3c6d741"
branch_labels = None
depends_on = None

PARTS = [
    ("active", "id"),
    ("inactive", "id"),
    ("inactive", "name", "id"),
    ("inactive", "email"),
]


def upgrade() -> None:
    """Create the indexes, but for those that somebody has created by hand before."""
    op.drop_index("ix_user_name", "user", if_exists=True)
    op.create_index("ix_user_name_id", "user", ["name", "id"], if_not_exists=True)
    for part, *columns in PARTS:
        op.create_index(
            f"ix_user_{part}_{columns[0]}",
            "user",
            [*columns, "is_active"],
            postgresql_where=sa.text(f"is_active = {part == 'active'}"),
            sqlite_where=sa.text(f"is_active = {int(part == 'active')}"),
            if_not_exists=True,
        )
    create_search_index(op.get_bind(), "user", "email", "upper(name)")


def downgrade() -> None:
    """Drop them; the extension pg_trgm stays, since somebody else may use it."""
    op.execute("DROP INDEX IF EXISTS ix_user_search")
    for part, key, *_ in PARTS:
        op.drop_index(f"ix_user_{part}_{key}", "user")
    op.drop_index("ix_user_name_id", "user")
    op.create_index("ix_user_name", "user", ["name"])
