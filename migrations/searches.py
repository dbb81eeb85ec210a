"""Index of a search, for Alembic: proposed with the table that has one, and written as one line.

    op.create_search_index("product", "name", "sku")

SQLite has no such index. So whether there is one already is read in the files of the migrations.
https://alembic.sqlalchemy.org/en/latest/api/autogenerate.html#autogenerating-custom-operation-directives
"""

from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import UpgradeOps
from alembic.util import DispatchPriority

from core import revisions, searches, tables


@Operations.register_operation("create_search_index")
class CreateSearchIndex(MigrateOperation):
    """Create the index of the texts in these columns."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns

    @classmethod
    def create_search_index(cls, operations: Operations, table: str, *columns: str) -> None:
        """Do what `op.create_search_index("product", "name")` says."""
        operations.invoke(cls(table, columns))

    def reverse(self) -> MigrateOperation:
        """Return what takes it back."""
        return DropSearchIndex(self.table, self.columns)


@Operations.register_operation("drop_search_index")
class DropSearchIndex(CreateSearchIndex):
    """Drop it."""

    @classmethod
    def drop_search_index(cls, operations: Operations, table: str, *columns: str) -> None:
        """Do what `op.drop_search_index("product", "name")` says."""
        operations.invoke(cls(table, columns))

    def reverse(self) -> MigrateOperation:
        """Return what takes it back."""
        return CreateSearchIndex(self.table, self.columns)


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


@renderers.dispatch_for(CreateSearchIndex)
@renderers.dispatch_for(DropSearchIndex)
def render(context: AutogenContext, index: CreateSearchIndex) -> str:
    names = ", ".join(map(repr, (index.table, *index.columns)))
    name = "drop" if isinstance(index, DropSearchIndex) else "create"
    return f"op.{name}_search_index({names})"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def compare(context: AutogenContext, upgrade: UpgradeOps, schemas: Any) -> None:
    """Propose what the tables want, and no migration has created yet."""
    there = revisions.searches()
    for table in context.sorted_tables:
        wanted, created = tables.searched.get(table, ()), there.get(table.name, ())
        if wanted != created:
            if created:
                upgrade.ops.append(DropSearchIndex(table.name, created))
            if wanted:
                upgrade.ops.append(CreateSearchIndex(table.name, wanted))
