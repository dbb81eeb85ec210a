"""What can be set from outside."""

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url

from core import settings
from tests.processes import BARE_CLIENT, run_python
from tests.server import ROOT, free_port


def test_settings_from_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///./other.db\nDEBUG=true\n")
    done = run_python("-c", BARE_CLIENT, folder=tmp_path)
    assert (tmp_path / "other.db").exists()
    assert "SELECT user.id" in done.stdout
    silent = run_python(
        "-c", BARE_CLIENT, folder=tmp_path, DEBUG="false", DATABASE_URL="sqlite:///./third.db"
    )
    assert (tmp_path / "third.db").exists()
    assert silent.stdout == "[]\n"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL: "),
        ({"DATABASE_URL": "secret"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "mysql://u:secret@localhost/x"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "sqlite+pysqlcipher://:secret@/x"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "postgresql://u:secret@localhost:port/x"}, "DATABASE_URL: "),
        ({"DATABASE_URL": "postgresql://u:my@secret@localhost/x"}, "%40"),
        ({"DATABASE_URL": "postgresql://u:secret@localhost/x?pgbouncer=yes"}, "pgbouncer is true"),
        ({"DATABASE_URL": "sqlite://app.db"}, "three slashes"),
        ({"DATABASE_URL": "sqlite:///x.db?timeout=soon"}, "timeout is a number of seconds"),
        ({"DATABASE_URL": "postgresql://u:secret@ho\nst/x"}, "there is a newline"),
        ({"DATABASE_URL": "sqlite://u:secret@/x.db"}, "three slashes"),
        ({"DATABASE_URL": "sqlite://u@/x.db"}, "three slashes"),
        ({"DATABASE_URL": "sqlite://:80/x.db"}, "three slashes"),
        ({"READ_DATABASE_URL": "postgresql://u:secret@h:x/y"}, "READ_DATABASE_URL: not a URL"),
        ({"READ_DATABASE_URL": "sqlite:///x.db"}, "READ_DATABASE_URL: only postgresql://"),
        ({"DATABASE_URL": "postgresql://us,er:secret,secret@h:x/y"}, "DATABASE_URL: not a URL"),
        ({"DEBUG": "maybe"}, "DEBUG: "),
        ({"CORS_ORIGINS": "http://localhost:5173, nonsense"}, "CORS_ORIGINS: nonsense "),
        ({"CORS_ORIGINS": "http://localhost:5173/"}, "CORS_ORIGINS: http://localhost:5173/ "),
        ({"CORS_ORIGINS": "*"}, "CORS_ORIGINS: * "),
    ],
)
def test_a_setting_that_cannot_be_used(
    tmp_path: Path, settings: dict[str, str], complaint: str
) -> None:
    done = run_python("-c", "import database", folder=tmp_path, **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_secret_that_ends_in_a_newline(tmp_path: Path) -> None:
    """As `echo` makes one, for Kubernetes or Docker."""
    secrets = {"DATABASE_URL": "sqlite:///./other.db\n", "DEBUG": " false\n", "CORS_ORIGINS": "\n"}
    done = run_python("-c", BARE_CLIENT, folder=tmp_path, **secrets)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"other.db"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_a_file_in_the_encoding_of_an_editor(tmp_path: Path, encoding: str) -> None:
    text = "# Réglages\nDATABASE_URL=sqlite:///./other.db\n"
    (tmp_path / ".env").write_text(text, encoding=encoding)
    done = run_python("-c", BARE_CLIENT, folder=tmp_path)
    if encoding.startswith("utf-8"):
        assert done.stdout == "[]\n"
        assert (tmp_path / "other.db").exists()
    else:
        assert done.returncode == 1
        assert done.stderr.startswith(".env is not in UTF-8: save it as UTF-8")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("written", "mode"),
    [("require", "require"), ("verify-full", "verify-full"), ("true", "require")],
)
def test_the_word_for_tls_of_other_drivers(written: str, mode: str) -> None:
    """asyncpg's, and that of most things in JavaScript."""
    url = make_url(
        settings.check_url(f"postgresql+asyncpg://u@h/x?ssl={written}&connect_timeout=3")
    )
    assert url.query == {"sslmode": mode, "connect_timeout": "3"}
    assert "ssl" in make_url(settings.check_url("sqlite:///x.db?ssl=1")).query


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:x?mode=memory&cache=shared&uri=true",
    ],
)
def test_names_of_a_database_in_memory(tmp_path: Path, url: str) -> None:
    done = run_python("-c", BARE_CLIENT, folder=tmp_path, DATABASE_URL=url)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_an_encoding(postgresql: str, tmp_path: Path) -> None:
    """What initdb makes where the machine has no locale."""
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"ascii_{uuid4().hex}"
    with admin.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
        )
    url = make_url(postgresql).set(database=name).render_as_string(hide_password=False)
    server = ("-m", "uvicorn", "main:app", f"--port={free_port()}")
    done = run_python(*server, folder=ROOT, DATABASE_URL=url)
    assert done.returncode == 3
    assert "its encoding is SQL_ASCII" in done.stderr
    assert "ENCODING 'UTF8'" in done.stderr
    assert "Traceback" not in done.stderr
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    "scheme",
    [
        "postgres",
        "postgresql",
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+asyncpg",
    ],
)
def test_all_spellings_of_postgresql(scheme: str) -> None:
    url = settings.check_url(f"{scheme}://user:p%40ss@host:5433/name")
    assert url == "postgresql+psycopg://user:p%40ss@host:5433/name"


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"])
def test_all_spellings_of_sqlite(scheme: str) -> None:
    assert settings.check_url(f"{scheme}:///./app.db") == "sqlite:///./app.db"


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("postgresql://u:p@db1:5432,db2:5433/app", "db1,db2", "5432,5433"),
        ("postgresql+psycopg2://u:p@db1,db2:5433/app", "db1,db2", ",5433"),
        ("postgresql://u:p@/app?host=db1:5432&host=db2:5433", "db1,db2", "5432,5433"),
        ("postgresql://u:p@[::1]:5432,[::1]:5433/app", "::1,::1", "5432,5433"),
        ("postgresql://u:p@[::1]:5432/app", "::1", 5432),
        ("postgresql://u:p@%2Ftmp/app", "/tmp", None),
        ("postgresql://u:p@db1:5432/app", "db1", 5432),
    ],
)
@pytest.mark.parametrize("password", ["p", "12,34", "p%40,x,"])
def test_hosts(written: str, host: str, port: int | str | None, password: str) -> None:
    """As PostgreSQL's documentation writes several, and as SQLAlchemy's does."""
    written = written.replace("u:p@", f"u:{password}@")
    url = make_url(settings.check_url(f"{written}{'&' if '?' in written else '?'}sslmode=prefer"))
    _, arguments = url.get_dialect()().create_connect_args(url)
    assert (arguments["host"], arguments.get("port")) == (host, port)
    assert (arguments["user"], arguments["dbname"]) == ("u", "app")
    assert arguments["password"] == password.replace("%40", "@")
    assert arguments["sslmode"] == "prefer"
