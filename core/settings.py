"""What can be set from outside: by the environment, or in a file named .env."""

import re
import sys
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

Kind = TypeVar("Kind", bound=BaseSettings)

# What asyncpg and JavaScript call sslmode.
SSL = {"true": "require", "false": "disable"}
# What courses write before :// names a driver, too; which one is used is our choice.
DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql+psycopg2": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}


def several_hosts(text: str) -> str:
    """Return a URL like `postgresql://user@host1:5432,host2:5432/name` as SQLAlchemy reads it.

    That is how PostgreSQL writes several hosts, and a folder with a socket as `%2Ftmp`:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
    """
    parts = re.fullmatch(r"([\w+]+://(?:[^/]*@)?)([^/?]*)(/[^?]*)?(?:\?(.*))?", text)
    if not parts or not ("," in parts[2] or parts[2].startswith("%2F")):
        return text
    start, hosts, name, query = parts.groups("")
    pairs = [re.fullmatch(r"\[?(.*?)\]?(?::(\d*))?", host) for host in hosts.split(",")]
    names, ports = (",".join(pair[n] or "" for pair in pairs if pair) for n in (1, 2))
    words = [f"host={names}"]
    if ports.strip(","):
        words.append(f"port={ports}")
    if query:
        words.append(query)
    return f"{start}{name or '/'}?{'&'.join(words)}"


def check_url(text: str) -> str:
    """Return `text` with the driver that we use for its database.

    Raises ValueError if it cannot be used, without quoting it: it may hold a password.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("there is a newline, or another character that nobody sees, in it")
    try:
        url = make_url(several_hosts(text))
    except (ArgumentError, ValueError):
        raise ValueError("not a URL like postgresql://user:password@host:5432/name") from None
    if "@" in (url.host or ""):
        raise ValueError("an @ in the user name or the password is written %40")
    if url.drivername not in DRIVERS:
        raise ValueError("only sqlite:// and postgresql:// are supported")
    url = url.set(drivername=DRIVERS[url.drivername])
    if url.drivername == "sqlite" and (url.host or url.port or url.username or url.password):
        raise ValueError(
            "SQLite takes three slashes, sqlite:///./app.db, or four: sqlite:////tmp/app.db"
        )
    if url.drivername == "postgresql+psycopg" and "ssl" in url.query:
        said = url.query["ssl"]
        mode = said if isinstance(said, str) else said[-1]
        url = url.difference_update_query(["ssl"]).update_query_dict(
            {"sslmode": SSL.get(mode, mode)}
        )
    if url.drivername == "sqlite":
        try:
            float(str(url.query.get("timeout", "0")))
        except ValueError:
            raise ValueError("timeout is a number of seconds") from None
    if url.query.get("pgbouncer", "true") not in ("true", "false"):
        raise ValueError("pgbouncer is true, for a pooler in transaction mode, or false")
    return url.render_as_string(hide_password=False)


def check_read_url(text: str) -> str:
    """Return `text` as `check_url` does, if it is not empty; SQLite has no replicas."""
    url = text and check_url(text)
    if url.startswith("sqlite"):
        raise ValueError("only postgresql:// is supported")
    return url


def check_origins(text: str) -> str:
    """Return `text`, origins with commas between them; raises ValueError if one is none."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise ValueError(f"{origin} is no origin like http://localhost:5173")
    return ",".join(origins)


class Settings(BaseSettings):
    """What can be set; README.md says what each is for."""

    # With a mark in front (-sig), as Notepad writes it, or without.
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8-sig", extra="ignore"
    )

    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///./app.db"
    read_database_url: Annotated[str, AfterValidator(check_read_url)] = ""
    debug: bool = False
    cors_origins: Annotated[str, AfterValidator(check_origins)] = ""

    @field_validator("*", mode="before")
    @classmethod
    def strip(cls, value: object) -> object:
        """Take away what nobody sees: a secret that was made with `echo` ends in a newline."""
        return value.strip().strip("\ufeff\u200b").strip() if isinstance(value, str) else value


def load(kind: type[Kind]) -> Kind:
    """Return the settings of one kind; exit with a line for each that cannot be used."""
    try:
        if Path(".env").is_file() and b"\0" in Path(".env").read_bytes():  # UTF-16 would be ignored
            raise UnicodeError
        return kind()
    except UnicodeError:
        sys.exit(
            ".env is not in UTF-8: save it as UTF-8 (in PowerShell: Set-Content -Encoding utf8)"
        )
    except ValidationError as error:
        for problem in error.errors():
            message = problem["msg"].removeprefix("Value error, ")
            print(f"{str(problem['loc'][0]).upper()}: {message}", file=sys.stderr)
        sys.exit(1)
