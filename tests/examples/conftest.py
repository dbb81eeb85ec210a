"""Examples that are scripts, run in this process."""

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Engine

import database

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run an example as `python -m` does, on an empty database."""
    monkeypatch.setattr(database, "engine", engine)
    monkeypatch.setattr(database, "init_db", partial(database.init_db, engine))

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        printed, complained, code = io.StringIO(), io.StringIO(), 0
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
            try:
                runpy.run_module(f"examples.{name}", run_name="__main__")
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
                if isinstance(error.code, str):  # as Python itself does it
                    print(error.code, file=complained)
        said = (printed.getvalue(), complained.getvalue())
        return subprocess.CompletedProcess(sys.argv, code, *said)

    return run
