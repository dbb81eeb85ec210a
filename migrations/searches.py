"""Index of a search, for Alembic: proposed with the table that has one, and written as one line.

    op.create_search_index("product", "name", "sku")  # on PostgreSQL
    op.create_fts_index("product", "name", "sku")  # on SQLite

Each is for one of them only. So whether it is there already is read in the files of the migrations.
https://alembic.sqlalchemy.org/en/latest/api/autogenerate.html#autogenerating-custom-operation-directives
"""

from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import UpgradeOps
from alembic.util import DispatchPriority

from core import fts, revisions, searches, tables


class SearchIndex(MigrateOperation):
    """What is to be done with the index of the texts in some columns of a table."""

    name: str  # of the operation
    opposite: str  # the name of the one that takes it back

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns

    @classmethod
    def run(cls, operations: Operations, table: str, *columns: str) -> None:
        """Do what `op.create_search_index("product", "name")` says, or another of these."""
        operations.invoke(cls(table, columns))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what `alembic check` says of it."""
        return self.name, self.table, *self.columns

    def reverse(self) -> MigrateOperation:
        """Return what takes it back."""
        (taken_back,) = (
            each for each in SearchIndex.__subclasses__() if each.name == self.opposite
        )
        return taken_back(self.table, self.columns)


@Operations.register_operation("create_search_index", "run")
class CreateSearchIndex(SearchIndex):
    """Create that of PostgreSQL."""

    name, opposite = "create_search_index", "drop_search_index"


@Operations.register_operation("drop_search_index", "run")
class DropSearchIndex(SearchIndex):
    """Drop it."""

    name, opposite = "drop_search_index", "create_search_index"


@Operations.register_operation("create_fts_index", "run")
class CreateFtsIndex(SearchIndex):
    """Create that of SQLite."""

    name, opposite = "create_fts_index", "drop_fts_index"


@Operations.register_operation("drop_fts_index", "run")
class DropFtsIndex(SearchIndex):
    """Drop it."""

    name, opposite = "drop_fts_index", "create_fts_index"


@Operations.implementation_for(CreateSearchIndex)
def create(operations: Operations, index: CreateSearchIndex) -> None:
    context = operations.get_context()
    if not context.as_sql:
        searches.create_search_index(operations.get_bind(), index.table, *index.columns)
    elif context.dialect.name == "postgresql":
        operations.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        operations.execute(searches.search_index(index.table, index.columns))


@Operations.implementation_for(DropSearchIndex)
def drop(operations: Operations, index: DropSearchIndex) -> None:
    if operations.get_context().dialect.name == "postgresql":
        operations.execute(f'DROP INDEX IF EXISTS "ix_{index.table}_search"')


@Operations.implementation_for(CreateFtsIndex)
def create_fts(operations: Operations, index: CreateFtsIndex) -> None:
    if not operations.get_context().as_sql:
        fts.create_fts_index(operations.get_bind(), index.table, *index.columns)
    elif operations.get_context().dialect.name == "sqlite":
        for statement in fts.statements(index.table, index.columns):
            operations.execute(statement)


@Operations.implementation_for(DropFtsIndex)
def drop_fts(operations: Operations, index: DropFtsIndex) -> None:
    if operations.get_context().dialect.name == "sqlite":
        for statement in fts.drops(index.table):
            operations.execute(statement)


@renderers.dispatch_for(SearchIndex)
def render(context: AutogenContext, index: SearchIndex) -> str:
    names = ", ".join(map(repr, (index.table, *index.columns)))
    return f"op.{index.name}({names})"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def compare(context: AutogenContext, upgrade: UpgradeOps, schemas: Any) -> None:
    """Propose what the tables want, and no migration has created yet."""
    for kind, declared, create, drop in (
        ("search", tables.searched, CreateSearchIndex, DropSearchIndex),
        ("fts", tables.searched_by_fts, CreateFtsIndex, DropFtsIndex),
    ):
        there = revisions.searches(kind)
        for table in context.sorted_tables:
            wanted, created = declared.get(table, ()), there.get(table.name, ())
            if wanted != created:
                if created:
                    upgrade.ops.append(drop(table.name, created))
                if wanted:
                    upgrade.ops.append(create(table.name, wanted))
