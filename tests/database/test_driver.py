from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORT_DRIVER = "from imagekeep.database.driver import DRIVER, sqlite; print(DRIVER, sqlite.__name__)"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python with an environment of its own, in which no driver is named unless given."""
    inherited = {name: value for name, value in os.environ.items() if name != "IMAGEKEEP_SQLITE_DRIVER"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pysqlite3_is_chosen_where_it_is_installed() -> None:
    pytest.importorskip("pysqlite3", reason="pysqlite3 has no wheel here")

    assert run(IMPORT_DRIVER).stdout == "pysqlite3 pysqlite3.dbapi2\n"


def test_the_standard_library_is_chosen_where_pysqlite3_is_missing() -> None:
    hidden = "import sys; sys.modules['pysqlite3'] = None; " + IMPORT_DRIVER

    assert run(hidden).stdout == "sqlite3 sqlite3\n"


def test_the_environment_chooses_the_standard_library() -> None:
    assert run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="sqlite3").stdout == "sqlite3 sqlite3\n"


def test_the_environment_chooses_pysqlite3() -> None:
    pytest.importorskip("pysqlite3", reason="pysqlite3 has no wheel here")

    assert run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="pysqlite3").stdout == "pysqlite3 pysqlite3.dbapi2\n"


def test_pysqlite3_asked_for_and_missing_is_not_replaced() -> None:
    hidden = "import sys; sys.modules['pysqlite3'] = None; " + IMPORT_DRIVER
    refused = run(hidden, IMAGEKEEP_SQLITE_DRIVER="pysqlite3")

    assert "FailedPreconditionError: IMAGEKEEP_SQLITE_DRIVER is pysqlite3: " in refused.stderr
    assert refused.stdout == ""


def test_a_driver_that_does_not_exist_is_refused_naming_those_that_do() -> None:
    refused = run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="sqlite4")

    assert (
        "FailedPreconditionError: IMAGEKEEP_SQLITE_DRIVER is 'sqlite4'; it may be pysqlite3 or sqlite3"
        in refused.stderr
    )


def test_a_sqlite_without_strict_tables_is_refused_naming_the_oldest() -> None:
    older = "import sqlite3; sqlite3.sqlite_version_info = (3, 36, 9); " + IMPORT_DRIVER
    refused = run(older, IMAGEKEEP_SQLITE_DRIVER="sqlite3")

    assert "is too old: imagekeep needs 3.37" in refused.stderr


def test_sqlalchemy_uses_the_chosen_driver() -> None:
    code = """
from imagekeep.database.driver import sqlite
from imagekeep.database.engine import make_engine
with make_engine(lambda: sqlite.connect(":memory:", isolation_level=None)).connect() as connection:
    print(isinstance(connection.connection.dbapi_connection, sqlite.Connection))
"""
    assert run(code, IMAGEKEEP_SQLITE_DRIVER="sqlite3").stdout == "True\n"


def test_no_second_driver_is_imported() -> None:
    pytest.importorskip("pysqlite3", reason="pysqlite3 has no wheel here")
    code = "import imagekeep.database.migrate, sys; print('_sqlite3' in sys.modules)"

    assert run(code, IMAGEKEEP_SQLITE_DRIVER="pysqlite3").stdout == "False\n"
