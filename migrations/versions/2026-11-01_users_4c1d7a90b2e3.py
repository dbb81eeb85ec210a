"""Users.

Revision ID: 4c1d7a90b2e3
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "4c1d7a90b2e3"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, unless the app has done so before there were migrations."""
    if sa.inspect(op.get_bind()).has_table("user"):
        return
    op.create_table(
        "user",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name=op.f("ck_user_name_length")),
        sa.CheckConstraint("length(email) <= 254", name=op.f("ck_user_email_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_user_email_lower", "user", [sa.text("lower(email)")], unique=True)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("user")
