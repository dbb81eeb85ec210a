"""What the tables of a database lack that the code needs."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import (
    CheckConstraint,
    Dialect,
    ForeignKeyConstraint,
    Inspector,
    MetaData,
    Table,
    UniqueConstraint,
)
from sqlalchemy.engine.interfaces import (
    ReflectedCheckConstraint,
    ReflectedColumn,
    ReflectedForeignKeyConstraint,
    ReflectedIndex,
    ReflectedPrimaryKeyConstraint,
    ReflectedUniqueConstraint,
)
from sqlalchemy.schema import CreateTable


def differences(inspector: Inspector, metadata: MetaData, needed: set[str]) -> list[str]:
    """Return what is wrong with the tables, so that calls would fail; in words, one for each."""
    wrong = []
    for table in metadata.sorted_tables:
        if inspector.has_table(table.name):
            there = {column["name"]: column for column in inspector.get_columns(table.name)}
            wrong += [f"no column {c}" for c in table.columns if c.name not in there]
            wrong += [
                f"a value is needed for {table.name}.{name}, which the code does not know"
                for name, column in there.items()
                if name not in table.columns
                and not (column["nullable"] or column["default"])
                and not (column.get("identity") or column.get("computed"))
            ]
        elif table.name in needed:
            wrong.append(f"no table {table}")
    return wrong


class There(NamedTuple):
    """What SQLAlchemy reads of a table."""

    columns: list[ReflectedColumn]
    key: ReflectedPrimaryKeyConstraint
    uniques: list[ReflectedUniqueConstraint]
    indexes: list[ReflectedIndex]
    checks: list[ReflectedCheckConstraint]
    references: list[ReflectedForeignKeyConstraint]


def read(inspector: Inspector, name: str) -> There:
    """Return what there is of a table, but for indexes on expressions, which SQLite hides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return There(
            inspector.get_columns(name),
            inspector.get_pk_constraint(name),
            inspector.get_unique_constraints(name),
            inspector.get_indexes(name),
            inspector.get_check_constraints(name),
            inspector.get_foreign_keys(name),
        )


def missing_rules(inspector: Inspector, table: Table) -> list[str]:
    """Return the rules of the code that a table does not have, without which calls go wrong.

    A CHECK is known by its name; a unique or a foreign key by its columns, for it may be somebody
    else's.
    """
    there = read(inspector, table.name)
    unique = [there.key["constrained_columns"], *(rule["column_names"] for rule in there.uniques)]
    for index in there.indexes:
        some_rows = any(name.endswith("_where") for name in index.get("dialect_options", {}))
        if index["unique"] and not some_rows:
            unique.append([str(column) for column in index["column_names"]])
    unique = [sorted(columns) for columns in unique]
    references = [
        (each["constrained_columns"], each["referred_table"]) for each in there.references
    ]
    checks = {rule["name"] for rule in there.checks if rule["sqltext"]}  # and not NOT ENFORCED
    may_be_null = {column["name"] for column in there.columns if column["nullable"]}
    missing = [
        f"{column} may be NULL"
        for column in table.columns
        if not (column.nullable or column.primary_key) and column.name in may_be_null
    ]
    for rule in rules_of(table, inspector.dialect):
        columns = [column.name for column in rule.columns]
        match rule:
            case UniqueConstraint():
                found = sorted(columns) in unique
            case ForeignKeyConstraint():
                found = (columns, rule.referred_table.name) in references
            case _:
                found = rule.name in checks
        if not found:
            missing.append(f"no {rule.name}")
    if inspector.dialect.name == "sqlite":  # whose statements name indexes, and fail without them
        named = {index["name"] for index in there.indexes}
        missing += [f"no {index.name}" for index in table.indexes if index.name not in named]
    return missing


def lacks(inspector: Inspector, table: Table) -> bool:
    """Tell whether a table lacks a column, a rule or an index, by the name that the code gives it.

    Migrations refer to these names.
    """
    there = read(inspector, table.name)
    checks = [each for each in there.checks if each["sqltext"]]
    names = {each["name"] for each in (*checks, *there.uniques, *there.indexes)}
    rules = [
        rule
        for rule in rules_of(table, inspector.dialect)
        if not isinstance(rule, ForeignKeyConstraint)
    ]
    columns = {column["name"] for column in there.columns}
    wanted = {each.name for each in (*rules, *table.indexes)}
    return not (columns.issuperset(table.columns.keys()) and names.issuperset(wanted))


def rules_of(
    table: Table, dialect: Dialect
) -> Iterator[CheckConstraint | UniqueConstraint | ForeignKeyConstraint]:
    """Yield the rules that a table gets on a database: some are for one kind of it only."""
    created = str(CreateTable(table).compile(dialect=dialect))
    for rule in table.constraints:
        if isinstance(rule, CheckConstraint | UniqueConstraint | ForeignKeyConstraint):
            name = dialect.identifier_preparer.format_constraint(rule)
            if f"CONSTRAINT {name} " in created:
                yield rule
