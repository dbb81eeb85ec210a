"""Users as the code needs them, whatever the table looked like before.

It may be one of an earlier version, or one that the code of a course has made: without a rule, an
index or `is_active`, with other names, with a column more. What is there is compared with what is
wanted. If a user does not fit, nothing changes.

Revision ID: b7d2e0964f15
Revises: 8e52f3c6d741
"""

import warnings
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from core.tables import create_search_index

revision = "b7d2e0964f15"
down_revision = "8e52f3c6d741"
branch_labels = None
depends_on = None


def wanted() -> sa.Table:
    """Return the table; a change in models.py gets a migration of its own, after this one."""
    parts = [
        sa.Index(
            f"ix_user_{part}_{columns[0]}",
            *columns,
            "is_active",
            postgresql_where=sa.text(f"is_active = {part == 'active'}"),
            sqlite_where=sa.text(f"is_active = {int(part == 'active')}"),
        )
        for part, *columns in (
            ("active", "id"),
            ("inactive", "id"),
            ("inactive", "name", "id"),
            ("inactive", "email"),
        )
    ]
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
        sa.CheckConstraint("email = lower(email)", name="ck_user_email_lower"),
        sa.Index("ix_user_name_id", "name", "id"),
        *parts,
        sqlite_autoincrement=True,
    )


def upgrade() -> None:
    """Create the table, or change the one that is there into it."""
    connection = op.get_bind()
    table = wanted()
    if not sa.inspect(connection).has_table("user"):
        table.create(connection)
    else:
        check_columns(connection, table)
        if "is_active" not in columns_of(connection):
            op.execute('ALTER TABLE "user" ADD COLUMN is_active BOOLEAN DEFAULT true NOT NULL')
        check_users(connection)
        op.execute('UPDATE "user" SET email = lower(email) WHERE email <> lower(email)')
        change = copy_table if connection.dialect.name == "sqlite" else alter_table
        change(connection, table)
    create_search_index(connection, "user", "email", "upper(name)")


def downgrade() -> None:
    """Stop: nobody knows any more what the table was like before."""
    raise CommandError("this cannot be taken back: restore a copy of the database")


# ---- What stops it


def columns_of(connection: sa.Connection) -> dict[str, Any]:
    return {column["name"]: column for column in sa.inspect(connection).get_columns("user")}


def check_columns(connection: sa.Connection, table: sa.Table) -> None:
    """Stop at a column that is missing, or that only other code can fill."""
    there = columns_of(connection)
    for name in ("id", "name", "email"):
        if name not in there:
            raise CommandError(f"there is no user.{name}: add it, with a value for each user")
    key = sa.inspect(connection).get_pk_constraint("user")["constrained_columns"]
    if key != ["id"] or not isinstance(there["id"]["type"], sa.Integer):
        raise CommandError("user.id is not a whole number that is the primary key")
    for name, column in there.items():
        filled = column["nullable"] or column["default"]
        if not (
            name in table.columns or filled or column.get("identity") or column.get("computed")
        ):
            needs = "needs a value, and the code does not know it"
            raise CommandError(f"user.{name} {needs}: let it be NULL, or give it a default")


def check_users(connection: sa.Connection) -> None:
    """Stop at users whom the rules do not allow."""
    problems = {
        "name IS NULL": "have NULL for a name",
        "email IS NULL": "have NULL for an email",
        "is_active IS NULL": "have NULL for is_active",
        "length(name) NOT BETWEEN 1 AND 100": "have a name that is empty, or longer than 100",
        "length(email) > 254": "have an email that is longer than 254",
    }
    if connection.dialect.name == "sqlite":  # which stores anything in any column
        problems["is_active NOT IN (0, 1)"] = "have an is_active that is neither true nor false"
    for condition, problem in problems.items():
        found = connection.execute(sa.text(f'SELECT id FROM "user" WHERE {condition} ORDER BY id'))
        ids = [str(user_id) for user_id in found.scalars().fetchmany(6)]
        if ids:
            named = ", ".join(ids[:5]) + (" and others" if len(ids) > 5 else "")
            raise CommandError(f"users {named} {problem}: change or delete them")
    lower = 'SELECT lower(email) FROM "user" GROUP BY lower(email) HAVING count(*) > 1'
    for email in connection.scalars(sa.text(lower)):
        same = sa.text('SELECT id, email FROM "user" WHERE lower(email) = :email ORDER BY id')
        owners = connection.execute(same, {"email": email}).fetchmany(2)
        both = " and ".join(f"{owner.id} ({owner.email})" for owner in owners)
        raise CommandError(f"users {both} have the same email in lower case: change one of them")


# ---- What changes the table


def copy_table(connection: sa.Connection, table: sa.Table) -> None:
    """Copy the table to one as it is wanted, which is how SQLite changes rules.

    What belongs to columns that the code does not know goes along, and so do CHECKs.
    """
    inspector = sa.inspect(connection)
    ours = set(table.columns.keys())
    names = {constraint.name for constraint in table.constraints}
    for column in inspector.get_columns("user"):
        if column["name"] not in ours:
            default = column["default"] and sa.text(column["default"])
            computed = [sa.Computed(**column["computed"])] if "computed" in column else []
            table.append_column(
                sa.Column(
                    column["name"],
                    column["type"],
                    *computed,
                    nullable=column["nullable"],
                    server_default=None if computed else default,
                )
            )
    for key in inspector.get_foreign_keys("user"):
        to = [f"{key['referred_table']}.{name}" for name in key["referred_columns"]]
        table.append_constraint(
            sa.ForeignKeyConstraint(
                key["constrained_columns"], to, name=key["name"], **key["options"]
            )
        )
    for check in inspector.get_check_constraints("user"):
        if check["name"] not in names:
            table.append_constraint(sa.CheckConstraint(check["sqltext"], name=check["name"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of indexes on expressions, which cannot be read
        uniques = inspector.get_unique_constraints("user")
        indexes = inspector.get_indexes("user")
    for unique in uniques:
        if not ours.issuperset(unique["column_names"]):
            constraint = sa.UniqueConstraint(*unique["column_names"], name=unique["name"])
            table.append_constraint(constraint)
    for index in indexes:
        columns = [name for name in index["column_names"] if name]
        if not ours.issuperset(columns):
            options = index.get("dialect_options", {})
            sa.Index(
                index["name"],
                *(table.c[name] for name in columns),
                unique=bool(index["unique"]),
                **options,
            )
    autoincrement = {"sqlite_autoincrement": True}
    with op.batch_alter_table(
        "user", recreate="always", copy_from=table, table_kwargs=autoincrement
    ):
        pass


def alter_table(connection: sa.Connection, table: sa.Table) -> None:
    """Change types, rules and indexes in their place, which PostgreSQL can."""
    inspector = sa.inspect(connection)
    ours = set(table.columns.keys())
    names = {index.name for index in table.indexes}
    key = inspector.get_pk_constraint("user")["name"]
    if key != "pk_user":
        op.execute(f'ALTER TABLE "user" RENAME CONSTRAINT "{key}" TO pk_user')
    there = {"pk_user"} | {str(each["name"]) for each in inspector.get_check_constraints("user")}
    for unique in inspector.get_unique_constraints("user"):
        name, columns = str(unique["name"]), unique["column_names"]
        if columns == ["email"] and "uq_user_email" not in there:
            if name != "uq_user_email":  # another table may refer to it: it gets another name
                op.execute(f'ALTER TABLE "user" RENAME CONSTRAINT "{name}" TO uq_user_email')
            there.add("uq_user_email")
        elif ours.issuperset(columns):
            op.execute(f'ALTER TABLE "user" DROP CONSTRAINT "{name}"')
    for index in inspector.get_indexes("user"):
        method = index.get("dialect_options", {}).get("postgresql_using")
        columns = [name for name in index["column_names"] if name]
        if (
            ours.issuperset(columns)
            and index["name"] not in names
            and "duplicates_constraint" not in index
            and method != "gin"
        ):
            op.execute(f'DROP INDEX "{index["name"]}"')
    for column in table.columns:
        before = columns_of(connection)[column.name]
        using = None
        if isinstance(column.type, sa.Boolean):
            op.execute('ALTER TABLE "user" ALTER is_active DROP DEFAULT')
            if not isinstance(before["type"], sa.Boolean):
                using = "is_active::text::boolean"
        op.alter_column(
            "user", column.name, type_=column.type, nullable=False, postgresql_using=using
        )
    for constraint in table.constraints:
        if constraint.name not in there:
            connection.execute(sa.schema.AddConstraint(constraint))
    for new in table.indexes:
        new.create(connection, checkfirst=True)
    number_on(connection)


def number_on(connection: sa.Connection) -> None:
    """Let ids go on after the highest, also where somebody has chosen them."""
    sequence_of = sa.text("SELECT pg_get_serial_sequence('\"user\"', 'id')")
    if connection.scalar(sequence_of) is None:
        op.execute('ALTER TABLE "user" ALTER id ADD GENERATED BY DEFAULT AS IDENTITY')
    sequence = connection.scalar(sequence_of)
    op.execute(f"ALTER SEQUENCE {sequence} AS bigint")
    op.execute(
        f"SELECT setval('{sequence}', greatest(max(id), (SELECT last_value FROM {sequence})))"
        ' FROM "user" HAVING max(id) IS NOT NULL'
    )
