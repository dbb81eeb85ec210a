"""Emails in lower case, plainly unique, and an index for ordering by name.

Revision ID: 8e52f3c6d741
Revises: 4c1d7a90b2e3
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "8e52f3c6d741"
down_revision = "4c1d7a90b2e3"
branch_labels = None
depends_on = None

user = sa.table("user", sa.column("id"), sa.column("email"))


def upgrade() -> None:
    """Store emails in lower case; stop if two users would have the same one."""
    connection = op.get_bind()
    checks = sa.inspect(connection).get_check_constraints("user")
    if "ck_user_email_lower" in {check["name"] for check in checks}:
        return  # the app has created the table like this, shortly before there were migrations
    owners: dict[str, str] = {}
    for user_id, email in connection.execute(sa.select(user.c.id, user.c.email)).all():
        owner = f"{user_id} ({email})"
        if owners.setdefault(email.lower(), owner) != owner:
            both = f"users {owners[email.lower()]} and {owner}"
            raise CommandError(f"{both} have the same email in lower case: change one of them")
        if email != email.lower():
            changed = sa.update(user).where(user.c.id == user_id).values(email=email.lower())
            connection.execute(changed)
    op.drop_index("uq_user_email_lower", "user")
    with op.batch_alter_table("user") as batch:
        batch.create_unique_constraint(op.f("uq_user_email"), ["email"])
        batch.create_check_constraint(op.f("ck_user_email_lower"), "email = lower(email)")
    op.create_index("ix_user_name", "user", ["name"])


def downgrade() -> None:
    """Allow capital letters again; the emails stay as they are."""
    op.drop_index("ix_user_name", "user")
    with op.batch_alter_table("user") as batch:
        batch.drop_constraint(op.f("ck_user_email_lower"), type_="check")
        batch.drop_constraint(op.f("uq_user_email"), type_="unique")
    op.create_index("uq_user_email_lower", "user", [sa.text("lower(email)")], unique=True)
