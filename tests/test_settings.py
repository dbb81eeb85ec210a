"""What can be set from outside."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

import database
import main
from core import settings
from core.engines import new_engine
from core.settings import Settings


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be in an empty folder, with no settings but those that a test makes."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("wrong", "complaint"),
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
    bare: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
    complaint: str,
) -> None:
    for name, value in wrong.items():
        bare.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        settings.load(Settings)
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.out == ""
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert "secret" not in said.err


def test_a_secret_that_ends_in_a_newline(bare: pytest.MonkeyPatch) -> None:
    """As `echo` makes one, for Kubernetes or Docker."""
    secrets = {"DATABASE_URL": "sqlite:///./other.db\n", "DEBUG": " false\n", "CORS_ORIGINS": "\n"}
    for name, value in secrets.items():
        bare.setenv(name, value)
    found = settings.load(Settings)
    assert (found.database_url, found.debug) == ("sqlite:///./other.db", False)
    assert found.cors_origins == ""


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_a_file_in_the_encoding_of_an_editor(encoding: str) -> None:
    text = "# Réglages\nDATABASE_URL=sqlite:///./other.db\n"
    Path(".env").write_text(text, encoding=encoding)
    if encoding.startswith("utf-8"):
        assert settings.load(Settings).database_url == "sqlite:///./other.db"
    else:
        with pytest.raises(SystemExit, match=r"^\.env is not in UTF-8: save it as UTF-8[^\n]*$"):
            settings.load(Settings)


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
def test_names_of_a_database_in_memory(bare: pytest.MonkeyPatch, url: str) -> None:
    bare.setenv("DATABASE_URL", url)
    engine = new_engine(settings.load(Settings).database_url)
    database.SessionLocal.configure(bind=engine)
    assert TestClient(main.app).get("/users").json() == []
    database.SessionLocal.configure(bind=database.engine)
    engine.dispose()
    assert list(Path().iterdir()) == []


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
