"""Make a table of users into the one that is wanted, whatever it looked like before.

It may be one of an earlier version, or one that the code of a course has made: without a rule, an
index or `is_active`, with other names, with a column more. What is there is compared with what is
wanted. If a user does not fit, nothing changes.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

from core import revisions
from core.letters import in_small_letters
from core.searches import language_of

log = logging.getLogger("alembic.runtime.migration")


EARLIER = {"4c1d7a90b2e3", "8e52f3c6d741"}  # revisions that have not made it what is wanted
# Indexes that earlier versions of it had, and that are in the way now, or of no use.
OLD = [
    "uq_user_email_lower",
    "ix_user_active_id",
    "ix_user_inactive_id",
    "ix_user_inactive_name",
    "ix_user_inactive_email",
]
# An email as plain text, for a column may say that A is a; and as core/letters.py says.
PLAIN = {"sqlite": "email || ''", "postgresql": 'CAST(email AS text) COLLATE "C"'}
SMALL = {"sqlite": "in_small_letters(email)", "postgresql": f"lower({PLAIN['postgresql']})"}


def create_first() -> None:
    """Create the table where there is none, in the first revision, for those that follow it."""
    if context.is_offline_mode() or sa.inspect(op.get_bind()).has_table("user"):
        return
    newest = context.script.get_revision(revisions.repeatable()["user"])
    newest.module.wanted().create(op.get_bind())
    context.config.attributes["created"] = True


def take_over(table: sa.Table, revision: str, *, new: list[str], renewed: list[str]) -> None:
    """Change the table that is there into what is wanted; `revision` does so.

    Where an earlier version of it has been run, others may have changed the table since then: it
    only gets the indexes, the CHECKs that are called `new`, and those `renewed` that it has.
    """
    if context.is_offline_mode():
        raise CommandError(
            f"{revision} looks at the data, and so there is no SQL of it: run alembic upgrade "
            f"{revision} first; alembic upgrade {revision}:head --sql has the rest"
        )
    connection = op.get_bind()
    if context.config.attributes.get("created"):
        return
    if context.config.attributes.get("done", set()) - EARLIER:
        add_checks(connection, table, new, renewed)
        for name in OLD:
            op.execute(f"DROP INDEX IF EXISTS {name}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    else:
        check_columns(connection, table)
        check_users(connection)
        lower_emails(connection)
        change = copy_table if connection.dialect.name == "sqlite" else alter_table
        change(connection, table)


def lower_emails(connection: sa.Connection) -> None:
    """Write emails in small letters; stop if two are the same then, or if some cannot be seen."""
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.create_function(
            "in_small_letters",
            1,
            lambda email: in_small_letters(email) if isinstance(email, str) else email,
        )
    elif connection.scalar(sa.text("SELECT row_security_active('\"user\"')")):
        stop(
            'row level security hides users from this role: ALTER TABLE "user" NO FORCE ROW LEVEL '
            "SECURITY, if it is the owner, or let a superuser do it"
        )
    small, plain = SMALL[connection.dialect.name], PLAIN[connection.dialect.name]
    twice = f'SELECT {small} FROM "user" GROUP BY 1 HAVING count(*) > 1'
    for email in connection.scalars(sa.text(twice)):
        same = sa.text(f'SELECT id, email FROM "user" WHERE {small} = :email ORDER BY id')
        owners = connection.execute(same, {"email": email}).fetchmany(2)
        both = " and ".join(f"{owner.id} ({owner.email})" for owner in owners)
        stop(f"users {both} have the same email in lower case: change one of them")
    op.execute(f'UPDATE "user" SET email = {small} WHERE {plain} <> {small}')
    if connection.dialect.name == "postgresql":
        op.execute("SET CONSTRAINTS ALL IMMEDIATE")  # else the table cannot be changed


def renew_searches() -> None:
    """Create each index of a search anew that is there, and of no use."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table, columns in revisions.searches().items():
            if language_of(connection, table).misses_index():
                op.drop_search_index(table, *columns)  # type: ignore[attr-defined]
                op.create_search_index(table, *columns)  # type: ignore[attr-defined]


# ---- What stops it


def stop(reason: str) -> NoReturn:
    """Stop the command; env.py takes everything back."""
    raise CommandError(f"{reason}; nothing has changed")


def columns_of(connection: sa.Connection) -> dict[str, Any]:
    """Return what SQLAlchemy reads of each column of the table, by name."""
    return {column["name"]: column for column in sa.inspect(connection).get_columns("user")}


def check_columns(connection: sa.Connection, table: sa.Table) -> None:
    """Stop at a column that is missing, or that only other code can fill."""
    there = columns_of(connection)
    for name in ("id", "name", "email"):
        if name not in there:
            stop(f"there is no user.{name}: add it, with a value for each user")
    key = sa.inspect(connection).get_pk_constraint("user")["constrained_columns"]
    if key != ["id"] or not isinstance(there["id"]["type"], sa.Integer):
        stop("user.id is not a whole number that is the primary key")
    for name, column in there.items():
        if name in table.columns and column.get("computed"):
            stop(f"user.{name} is generated, and this app writes it: make it a plain column")
        filled = column["nullable"] or column["default"]
        if not (
            name in table.columns or filled or column.get("identity") or column.get("computed")
        ):
            needs = "needs a value, and this migration does not know it"
            stop(f"user.{name} {needs}: let it be NULL (docs/migrations.md says how)")


def check_users(connection: sa.Connection, only: Sequence[str] = ()) -> None:
    """Stop at users whom the rules do not allow; or at those with one of `only` these problems."""
    problems = {
        "name IS NULL": "NULL for a name",
        "email IS NULL": "NULL for an email",
        "is_active IS NULL": "NULL for is_active",
        "length(name) NOT BETWEEN 1 AND 100": "a name that is empty, or longer than 100",
        "length(email) > 254": "an email that is longer than 254",
    }
    if connection.dialect.name == "sqlite":  # which stores anything in any column
        problems["is_active NOT IN (0, 1)"] = "an is_active that is neither 0 nor 1"
    if "is_active" not in columns_of(connection):
        problems = {rule: text for rule, text in problems.items() if "is_active" not in rule}
    for condition, problem in problems.items():
        if only and condition not in only:
            continue
        found = connection.execute(sa.text(f'SELECT id FROM "user" WHERE {condition} ORDER BY id'))
        ids = [str(user_id) for user_id in found.scalars().fetchmany(6)]
        if ids:
            named = ", ".join(ids[:5]) + (" and others" if len(ids) > 5 else "")
            who = f"user {named} has" if len(ids) == 1 else f"users {named} have"
            stop(f"{who} {problem}: change that, or delete them")


def replaced(sql: str) -> bool:
    """Tell whether ours does what this index or rule did."""
    plain = re.search(r"\(\W*(id|email)\W*\)", sql)
    return bool(plain or (re.search(r"\(\W*name\W*\)", sql) and "UNIQUE" not in sql.upper()))


# ---- SQLite: a new table, and the rows copied


def copy_table(connection: sa.Connection, table: sa.Table) -> None:
    """Copy the users to a table as it is wanted, which is how SQLite changes rules.

    What belongs to columns that the code does not know is written as it was, word for word; so are
    CHECKs, references, triggers, and indexes on anything but our columns.
    """
    ours = set(table.columns.keys())
    names = {each.name for each in table.constraints} | {each.name for each in table.indexes}
    sql = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'user' AND sql IS NOT NULL"
    made = connection.exec_driver_sql(sql).all()
    columns, rules = parts_of(str(sa.schema.CreateTable(table).compile(connection)))
    their_columns, their_rules = parts_of(next(each.sql for each in made if each.type == "table"))
    theirs = set(their_columns) - ours
    for name in their_columns:
        if name in theirs:
            columns[name] = their_columns[name]
        else:  # CHECKs that stand behind a column of ours
            in_brackets = r"\((?:[^()']|'[^']*'|\((?:[^()]|\([^()]*\))*\))*\)"
            check = rf"(?i)\bCHECK\s*{in_brackets}"
            rules += re.findall(check, their_columns[name])
            lost = rf"(?i)\b(?:COLLATE\s+\S+|DEFAULT\s+(?:'[^']*'|{in_brackets}|\S+)|REFERENCES.*)"
            for left_out in re.findall(lost, re.sub(check, "", their_columns[name])):
                log.info("Left out: %s of user.%s", left_out, name)
    for rule in their_rules:
        known = re.search(r"(?i)\b(PRIMARY\s+KEY|UNIQUE)\b", rule) and not mentions(rule, theirs)
        if known or named(rule) in names or rule in rules:
            if not replaced(rule) and named(rule) not in names:
                log.info("Left out: %s", rule)
        else:
            rules.append(rule)
    kept = [each.sql for each in made if each.type == "trigger"]
    for index in (each for each in made if each.type == "index"):
        found = connection.exec_driver_sql(f"PRAGMA index_info('{index.name}')").all()
        some_rows = re.search(r"(?i)\bWHERE\b", index.sql)
        if some_rows or not ours.issuperset(column.name for column in found):
            if index.name not in names | set(OLD):
                kept.append(index.sql)
        elif index.name not in names and not replaced(index.sql):
            log.info("Left out: %s", index.sql)
    create = f'CREATE TABLE "_user" ({", ".join((*columns.values(), *rules))})'
    added = ("", "") if "is_active" in their_columns else ("is_active", "1")
    replace_table(connection, create, kept, *added)
    for new in table.indexes:
        new.create(connection)


def add_checks(
    connection: sa.Connection, table: sa.Table, new: list[str], renewed: list[str]
) -> None:
    """Add the CHECKs of `table` that are `new`, and put those `renewed` in the place of the old."""
    there = {check["name"] for check in sa.inspect(connection).get_check_constraints("user")}
    rules = [
        rule
        for rule in table.constraints
        if isinstance(rule, sa.CheckConstraint)
        and (rule.name in renewed if rule.name in there else rule.name in new)
    ]
    if connection.dialect.name != "sqlite":
        for rule in rules:
            if rule.name in there:
                op.execute(f'ALTER TABLE "user" DROP CONSTRAINT "{rule.name}"')
            connection.execute(sa.schema.AddConstraint(rule))
        return
    if not rules:
        return
    check_users(connection, ["is_active NOT IN (0, 1)"])
    made = "SELECT sql FROM sqlite_master WHERE tbl_name = 'user' AND sql IS NOT NULL"
    create, *others = connection.exec_driver_sql(f"{made} ORDER BY type <> 'table'").scalars()
    columns, old = parts_of(create)
    parts = [*columns.values(), *(each for each in old if named(each) not in renewed)]
    for rule in rules:
        condition = rule.sqltext.compile(dialect=connection.dialect)
        parts.append(f"CONSTRAINT {rule.name} CHECK ({condition})")
    body = ",\n    ".join(parts)
    replace_table(
        connection, f'CREATE TABLE "_user" (\n    {body}\n{create[create.rindex(")") :]}', others
    )


def named(rule: str) -> str | None:
    """Return the name of a rule of a CREATE TABLE."""
    found = re.match(r'(?i)CONSTRAINT\s+["\[`]?(\w+)', rule)
    return found[1] if found else None


def replace_table(
    connection: sa.Connection, create: str, others: list[str], added: str = "", value: str = ""
) -> None:
    """Copy the rows to a new table, with `value` in a column that is `added`; then run `others`."""
    connection.exec_driver_sql(create)
    stored = connection.exec_driver_sql("PRAGMA table_xinfo('user')").all()
    copied = [f'"{column.name}"' for column in stored if column.hidden == 0]  # and not generated
    into, values = ", ".join([*copied, *added.split()]), ", ".join([*copied, *value.split()])
    connection.exec_driver_sql(f'INSERT INTO "_user" ({into}) SELECT {values} FROM "user"')
    # As before 2018: what refers to the table does not follow it to another name.
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    connection.exec_driver_sql('DROP TABLE "user"')
    connection.exec_driver_sql('ALTER TABLE "_user" RENAME TO "user"')
    connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
    for sql in others:
        connection.exec_driver_sql(sql)


def parts_of(create_table: str) -> tuple[dict[str, str], list[str]]:
    """Return the columns of a CREATE TABLE by name, and its rules, each as it is written.

    `CREATE TABLE t (id INT, "a b" TEXT DEFAULT ',', UNIQUE (id))` has the columns
    `{"id": 'id INT', "a b": '"a b" TEXT DEFAULT ',''}` and the rules `["UNIQUE (id)"]`.
    """
    text = create_table[create_table.index("(") + 1 : create_table.rindex(")")]
    tokens = r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|."""
    parts, depth = [""], 0
    for piece in re.findall(tokens, text, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "," and depth == 0:
            parts.append("")
        elif not piece.startswith(("--", "/*")):
            parts[-1] += piece
    columns, rules = {}, []
    for part in map(str.strip, parts):
        if re.match(r"(?i)(CONSTRAINT|PRIMARY\s+KEY|UNIQUE|CHECK|FOREIGN\s+KEY)\b", part):
            rules.append(part)
        elif name := re.match(r'"((?:[^"]|"")*)"|`([^`]*)`|\[([^\]]*)\]|(\w+)', part):
            columns[next(group for group in name.groups() if group is not None)] = part
    return columns, rules


def mentions(sql: str, names: set[str]) -> bool:
    """Tell whether one of the names stands in a piece of SQL, as a word of its own."""
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql) for name in names)


# ---- PostgreSQL: changed in its place


def alter_table(connection: sa.Connection, table: sa.Table) -> None:
    """Change types, rules and indexes of our columns; leave alone what belongs to others."""
    inspector = sa.inspect(connection)
    there = columns_of(connection)
    ours = set(table.columns.keys())
    if "is_active" not in there:
        op.execute('ALTER TABLE "user" ADD COLUMN is_active BOOLEAN DEFAULT true NOT NULL')
        op.execute('ALTER TABLE "user" ALTER is_active DROP DEFAULT')
    key = inspector.get_pk_constraint("user")["name"]
    if key != "pk_user":
        op.execute(f'ALTER TABLE "user" RENAME CONSTRAINT "{key}" TO pk_user')
    done = {"pk_user"}
    for unique in inspector.get_unique_constraints("user"):
        name, columns = unique["name"], unique["column_names"]
        if columns == ["email"] and "uq_user_email" not in done:
            if name != "uq_user_email":  # renamed, because another table may refer to it
                op.execute(f'ALTER TABLE "user" RENAME CONSTRAINT "{name}" TO uq_user_email')
            done.add("uq_user_email")
        elif ours.issuperset(columns):
            log.info("Left out: UNIQUE (%s)", ", ".join(columns))
            op.execute(f'ALTER TABLE "user" DROP CONSTRAINT "{name}"')
    wanted_columns = {
        str(index.name): [column.name for column in index.columns] for index in table.indexes
    }
    for index in inspector.get_indexes("user"):
        name, parts = str(index["name"]), index["column_names"]
        options = index.get("dialect_options", {})
        own = options.get("postgresql_where") or options.get("postgresql_using")
        other = name in wanted_columns and wanted_columns[name] != parts
        plain = None not in parts and ours.issuperset(parts) and not own
        if "duplicates_constraint" in index or (name in wanted_columns and not other):
            continue
        if index["unique"] and parts == ["email"] and plain and "uq_user_email" not in done:
            rule = f'ADD CONSTRAINT uq_user_email UNIQUE USING INDEX "{name}"'
            op.execute(f'ALTER TABLE "user" {rule}')
            done.add("uq_user_email")
        elif plain or other or name in OLD:
            kind = "UNIQUE " if index["unique"] else ""
            if name not in OLD and not replaced(f"{kind}({', '.join(map(str, parts))})"):
                log.info("Left out: index %s", name)
            op.execute(f'DROP INDEX "{name}"')
    boolean = isinstance(there.get("is_active", {}).get("type", sa.Boolean()), sa.Boolean)
    names = {rule.name for rule in table.constraints}
    for check in inspector.get_check_constraints("user"):
        integer = not boolean and mentions(check["sqltext"], {"is_active"})  # IN (0, 1)
        if integer or check["name"] in names:  # of an earlier version, or NOT ENFORCED
            op.execute(f'ALTER TABLE "user" DROP CONSTRAINT "{check["name"]}"')
    for column in table.columns:
        before = there.get(column.name)
        if before is None:
            continue
        types = [kind.compile(connection.dialect) for kind in (before["type"], column.type)]
        if types[0] != types[1]:  # else a view of the column would be in the way for nothing
            using = None
            if not re.fullmatch(r"(VARCHAR|CHAR)(\(\d+\))?|TEXT|\w*INT(EGER)?|BOOLEAN", types[0]):
                log.info("Left out: %s of user.%s", types[0], column.name)
            if column.name == "is_active":
                if before["default"]:
                    log.info("Left out: DEFAULT %s of user.is_active", before["default"])
                using = "is_active::text::boolean"
                op.execute('ALTER TABLE "user" ALTER is_active DROP DEFAULT')
            op.alter_column("user", column.name, type_=column.type, postgresql_using=using)
        op.alter_column("user", column.name, nullable=False)
    for constraint in table.constraints:
        if constraint.name not in done:
            connection.execute(sa.schema.AddConstraint(constraint))
    for new in table.indexes:
        new.create(connection, checkfirst=True)
    number_on(connection)


def number_on(connection: sa.Connection) -> None:
    """Let ids go on after the highest, also where somebody has chosen them."""
    sequence_of = sa.text("SELECT pg_get_serial_sequence('\"user\"', 'id')")
    if connection.scalar(sequence_of) is None:
        used = re.search(r"nextval\('([^']+)'", columns_of(connection)["id"]["default"] or "")
        if used:
            op.execute(f'ALTER SEQUENCE {used[1]} OWNED BY "user".id')
        else:
            op.execute('ALTER TABLE "user" ALTER id ADD GENERATED BY DEFAULT AS IDENTITY')
    sequence = connection.scalar(sequence_of)
    op.execute(f"ALTER SEQUENCE {sequence} AS bigint")
    op.execute(
        f"SELECT setval('{sequence}', greatest(max(id), (SELECT last_value FROM {sequence})))"
        ' FROM "user" HAVING max(id) IS NOT NULL'
    )
