"""Limits of PostgreSQL, and poolers."""

import asyncio
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.exc import NotSupportedError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from core.engines import engine_options, new_engine, with_events
from core.postgresql import POOLED, is_pooled, set_patience
from tests.clients import wait_until

NEON = "ep-cool-darkness-123456{}.us-east-2.aws.neon.tech"


@pytest.mark.parametrize(
    ("address", "pooled"),
    [
        (NEON.format("-pooler"), True),
        (NEON.format(""), None),
        (f"{NEON.format('-pooler')}/app?pgbouncer=false", False),
        ("aws-0-eu-west-3.pooler.supabase.com:6543", True),
        ("aws-0-eu-west-3.pooler.supabase.com:5432", None),  # its session mode
        ("db.abcdefgh.supabase.co:6543", True),
        ("db.abcdefgh.supabase.co:5432", None),
        ("localhost:6432/app?pgbouncer=true", True),
        ("localhost:6432/app?pgbouncer=false", False),
        ("localhost:6432", None),
        ("db-pooler.example.com", None),
    ],
)
def test_which_addresses_are_poolers(address: str, pooled: bool | None) -> None:
    assert is_pooled(make_url(f"postgresql://u:p@{address}")) is pooled


def test_a_direct_connection_costs_one_question(
    new_postgresql: str, statements: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It finds out that there is no pooler, sets limits, and prepares statements."""
    engine = new_engine(new_postgresql)
    with engine.connect() as connection:
        connection.rollback()
        driver: Any = connection.connection.driver_connection
        assert connection.info[POOLED] is None
        assert driver.prepare_threshold == 5
        statements.clear()
        connection.execute(text("SELECT 1"))
        assert statements == ["SELECT 1"]
    assert caplog.text == ""
    engine.dispose()


def test_a_database_without_an_encoding(postgresql: str) -> None:
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"ascii_{uuid4().hex}"
    with admin.connect() as connection:
        options = "ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
        connection.exec_driver_sql(f"CREATE DATABASE {name} {options}")
        with pytest.raises(NotSupportedError, match="its encoding is SQL_ASCII"):
            new_engine(make_url(postgresql).set(database=name)).connect()
        connection.exec_driver_sql(f"DROP DATABASE {name}")  # nobody is connected


def test_a_server_that_does_not_answer(new_postgresql: str) -> None:
    """The wait ends, and so does the connection; the next one works."""
    engine = new_engine(new_postgresql)
    with engine.connect() as connection:
        set_patience(connection, 0.2)
        with pytest.raises(OperationalError, match="no answer from PostgreSQL within") as error:
            connection.execute(text("SELECT pg_sleep(10)"))
        assert error.value.connection_invalidated
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_a_server_that_does_not_answer_to_asyncio(new_postgresql: str) -> None:
    async def run() -> None:
        engine = create_async_engine(new_postgresql, **engine_options(new_postgresql))
        with_events(engine.sync_engine)
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            assert driver.patience == 33
            driver.patience = 0.2
            with pytest.raises(OperationalError, match="no answer from PostgreSQL within"):
                await connection.execute(text("SELECT pg_sleep(10)"))
        async with engine.connect() as connection:
            assert (await connection.execute(text("SHOW lock_timeout"))).scalar_one() == "5s"
        await engine.dispose()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "limits", "patience"),
    [
        ("", ("30s", "5s"), 33),
        ("-cstatement_timeout=90s", ("90s", "5s"), 93),
        ("-c STATEMENT_TIMEOUT=2min --lock-timeout=100", ("2min", "100ms"), 123),
        ("-cstatement_timeout=0", ("0", "5s"), None),
        ("-cdeadlock_timeout=2s", ("30s", "5s"), 33),
    ],
)
def test_limits_in_options_of_the_url(
    new_postgresql: str, options: str, limits: tuple[str, str], patience: float | None
) -> None:
    """They stand, and whoever allows a statement longer waits longer for it."""
    url = make_url(new_postgresql)
    both = [str(url.query["options"]), *([options] if options else [])]
    engine = new_engine(url.update_query_dict({"options": both}))
    with engine.connect() as connection:
        for name, limit in zip(("statement_timeout", "lock_timeout"), limits):
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == limit
        assert set_patience(connection, 1) == patience
    engine.dispose()


def test_many_answers_take_their_time(new_postgresql: str) -> None:
    """An executemany is one wait for psycopg, whatever its statements take."""
    engine = new_engine(new_postgresql)
    with engine.connect() as connection:
        set_patience(connection, 0.3)
        connection.execute(text("CREATE TEMPORARY TABLE slow (n text)"))
        insert = text("INSERT INTO slow SELECT pg_sleep(0.1) WHERE :n > 0")
        connection.execute(insert, [{"n": 1}] * 10)
    engine.dispose()


def test_a_commit_that_waits_for_a_standby_is_given_up(new_postgresql: str) -> None:
    """Its connection to the server, too: otherwise they would be used up, one by one."""
    engine = new_engine(new_postgresql)
    with engine.connect() as connection, engine.connect() as other:
        set_patience(connection, 0.3)
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with pytest.raises(OperationalError, match="no answer"):
            connection.execute(text("SELECT pg_sleep(20)"))
        there = text("SELECT pid FROM pg_stat_activity WHERE pid = :pid")
        wait_until(lambda: other.execute(there, {"pid": pid}).first() is None)
    engine.dispose()


def test_an_engine_of_somebody_else_is_left_alone(new_postgresql: str) -> None:
    engine = create_engine(new_postgresql)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "0"
        assert set_patience(connection, 1) is None
    engine.dispose()


@pytest.mark.parametrize(
    ("hosts", "own", "seconds"),
    [("host=db1", "", 5), ("host=db1&host=db2", "", 2), ("host=db1&host=db2", "4", 4)],
)
def test_the_time_to_connect(hosts: str, own: str, seconds: int) -> None:
    """With several hosts, the first one may be frozen, and each new connection asks it first."""
    query = f"{hosts}&connect_timeout={own}" if own else hosts
    engine = new_engine(f"postgresql+psycopg://u@/x?{query}")
    arguments = engine.dialect.create_connect_args(engine.url)[1]
    seen: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "core.postgresql.TimedConnection.connect", lambda **given: seen.update(given) or Mock()
        )
        engine.dialect.connect(**arguments)
    assert int(seen["connect_timeout"]) == seconds
