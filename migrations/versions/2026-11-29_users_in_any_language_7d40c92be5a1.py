"""Users as the code needs them, in any language of the database: migrations/takeover.py does it.

Revision ID: 7d40c92be5a1
Revises: c05d1e7b8a42
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from core.letters import HasNoCapitals
from migrations.takeover import renew_searches, take_over

revision = "7d40c92be5a1"
down_revision = "c05d1e7b8a42"
branch_labels = None
depends_on = None
repeatable = True  # whatever the table looks like


def wanted() -> sa.Table:
    """Return the table; a change in models.py gets a migration of its own, after this one."""
    nothing = sa.text("id IS NULL")
    return sa.Table(
        "user",
        sa.MetaData(),
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("email", name="uq_user_email"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name="ck_user_name_length"),
        sa.CheckConstraint("length(email) <= 254", name="ck_user_email_length"),
        sa.CheckConstraint(HasNoCapitals("email"), name="ck_user_email_lower"),
        sa.CheckConstraint("is_active IN (true, false)", name="ck_user_is_active"),
        sa.Index("ix_user_name_id", "name", "id"),
        sa.Index("ix_user_is_active_id", "is_active", "id"),
        sa.Index("ix_user_is_active_name_id", "is_active", "name", "id"),
        sa.Index("ix_user_is_active_email", "is_active", "email"),
        sa.Index("ix_user_none", "id", sqlite_where=nothing, postgresql_where=nothing),
        sqlite_autoincrement=True,
    )


def upgrade() -> None:
    """Change the table that is there into what is wanted, and renew what searches need."""
    take_over(wanted(), revision, new=["ck_user_is_active"], renewed=["ck_user_email_lower"])
    renew_searches()
    op.create_search_index("user", "name", "email")  # type: ignore[attr-defined]


def downgrade() -> None:
    """Stop: nobody knows any more what the table was like before."""
    raise CommandError("this cannot be taken back: restore a copy of the database")
