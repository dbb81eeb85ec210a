"""A copy of the folder `migrations` and a database, for commands of Alembic in this process."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.schema import AddConstraint

import database
from core import revisions
from tests.server import ROOT

TAKEOVER = revisions.repeatable().get("user", "")
HEAD = ScriptDirectory(str(ROOT / "migrations")).get_current_head()

# What gives the table its rules again.
MEND = "alembic stamp base, then alembic upgrade head"
if HEAD != TAKEOVER:  # there are migrations of one's own
    MEND = MEND.replace("head", f"{TAKEOVER}, then alembic stamp heads")


class Project:
    """A database that is empty at first, and a copy of the folder `migrations`."""

    def __init__(self, engine: Engine, folder: Path, metadata: MetaData) -> None:
        self.engine = engine
        self.folder = folder
        self.metadata = metadata

    def alembic(self, *arguments: str) -> str:
        """Run the command `alembic` in this process; raises SystemExit if it fails."""
        command = CommandLine("alembic")
        options = command.parser.parse_args(arguments)
        printed, errors = io.StringIO(), io.StringIO()
        config = Config(toml_file=ROOT / "pyproject.toml", cmd_opts=options, stdout=printed)
        config.set_main_option("script_location", str(self.folder))
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            try:
                command.run_cmd(config, options)
            except SystemExit as error:
                all_of_it = printed.getvalue() + errors.getvalue()
                said = error.code if isinstance(error.code, str) else all_of_it
                raise SystemExit(said) from None
            finally:
                for told in ("alembic.runtime.migration", "alembic.autogenerate"):
                    logging.getLogger(told).handlers.clear()  # they write to this stdout
        return printed.getvalue()

    def start(self) -> str:
        """Do what a start does; return what it complains of."""
        try:
            database.init_db(self.engine)
        except SystemExit as error:
            return str(error)
        return ""

    def execute(self, *statements: str) -> None:
        """Run statements in one transaction; a table is dropped even if another refers to it."""
        with self.engine.begin() as connection:
            for statement in statements:
                drops = statement.startswith("DROP TABLE") and self.engine.name == "postgresql"
                connection.execute(text(f"{statement} CASCADE" if drops else statement))

    def add_references(self, name: str) -> None:
        """Let the tables of models.py refer to a table again that was dropped."""
        with self.engine.begin() as connection:
            for table in self.metadata.sorted_tables:
                for key in table.foreign_key_constraints:
                    if key.referred_table.name == name and self.engine.name == "postgresql":
                        connection.execute(AddConstraint(key))

    def drop_all(self) -> None:
        """Make the database as empty as it was at first."""
        self.metadata.drop_all(self.engine)
        self.execute("DROP TABLE alembic_version")

    def add_users(self, *emails: str) -> None:
        """Write users without the app, and delete the last one."""
        insert = text("INSERT INTO \"user\" (name, email, is_active) VALUES ('N', :email, true)")
        with self.engine.begin() as connection:
            for email in (*emails, "last@example.com"):
                connection.execute(insert, {"email": email})
            connection.execute(text("DELETE FROM \"user\" WHERE email = 'last@example.com'"))

    def emails(self) -> list[tuple[int, str]]:
        """Return the ids and the emails of all users."""
        with self.engine.connect() as connection:
            rows = connection.execute(text('SELECT id, email FROM "user" ORDER BY id'))
            return [(user_id, email) for user_id, email in rows]

    def tables(self) -> dict[str, tuple[Any, ...]]:
        """Return all that can be told about the tables, in an order of its own."""
        inspector = inspect(self.engine)
        # SQLite cannot read an index on an expression.
        warnings.filterwarnings("ignore", "Skipped unsupported reflection")
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
                sorted(str(each) for each in inspector.get_check_constraints(name)),
                sorted(str(each) for each in inspector.get_unique_constraints(name)),
                sorted(str(each["name"]) for each in inspector.get_indexes(name)),
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }

    def add_migration(self, *steps: str, name: str = "a" * 12) -> Path:
        """Write one migration more, after the newest."""
        path = self.folder / "versions" / f"2026-12-01_more_{name}.py"
        path.write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n\n"
            f'revision = "{name}"\ndown_revision = "{HEAD}"\n\n\n'
            "def upgrade():\n    " + "\n    ".join(steps) + "\n"
        )
        return path
