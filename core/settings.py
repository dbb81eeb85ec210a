"""What can be set from outside: by the environment, or in a file named .env."""

import re
import sys
from typing import Annotated

from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

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


def check_url(text: str) -> str:
    """Return `text` with the driver that we use for its database.

    Raises ValueError if it cannot be used, without quoting it: it may hold a password.
    """
    # As PostgreSQL writes several hosts: https://www.postgresql.org/docs/current/libpq-connect.html
    if hosts := re.fullmatch(r"(\w+://(?:[^@/]*@)?)([^@/?]*,[^@/?]*)(/[^?]*)?\??(.*)", text):
        start, several, name, query = hosts.groups("")
        text = f"{start}{name or '/'}?{'&'.join(f'host={host}' for host in several.split(','))}"
        text += f"&{query}" if query else ""
    try:
        url = make_url(text)
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
    if url.query.get("pgbouncer", "true") not in ("true", "false"):
        raise ValueError("pgbouncer is true, for a pooler in transaction mode, or false")
    return url.render_as_string(hide_password=False)


def check_read_url(text: str) -> str:
    """Return `text` as `check_url` does; it may be empty."""
    return text and check_url(text)


def check_origins(text: str) -> str:
    """Return `text`, origins with commas between them; raises ValueError if one is none."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise ValueError(f"{origin} is no origin like http://localhost:5173")
    return ",".join(origins)


class Settings(BaseSettings):
    """What can be set; README.md says what each is for."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///./app.db"
    read_database_url: Annotated[str, AfterValidator(check_read_url)] = ""
    debug: bool = False
    cors_origins: Annotated[str, AfterValidator(check_origins)] = ""
    secret_key: str = ""


try:
    settings = Settings()
except ValidationError as error:
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        print(f"{str(problem['loc'][0]).upper()}: {message}", file=sys.stderr)
    sys.exit(1)
