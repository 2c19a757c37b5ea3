from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORT_DRIVER = "from imagekeep.database.driver import DRIVER, sqlite; print(DRIVER, sqlite.__name__)"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in an environment that selects no driver unless given."""
    inherited = {name: value for name, value in os.environ.items() if name != "IMAGEKEEP_SQLITE_DRIVER"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pysqlite3_is_used_if_installed() -> None:
    pytest.importorskip("pysqlite3", reason="pysqlite3 has no wheel here")

    assert run(IMPORT_DRIVER).stdout == "pysqlite3 pysqlite3.dbapi2\n"


def test_the_standard_library_is_used_without_pysqlite3() -> None:
    hidden = "import sys; sys.modules['pysqlite3'] = None; " + IMPORT_DRIVER

    assert run(hidden).stdout == "sqlite3 sqlite3\n"


def test_the_environment_selects_the_standard_library() -> None:
    assert run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="sqlite3").stdout == "sqlite3 sqlite3\n"


def test_the_environment_selects_pysqlite3() -> None:
    pytest.importorskip("pysqlite3", reason="pysqlite3 has no wheel here")

    assert run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="pysqlite3").stdout == "pysqlite3 pysqlite3.dbapi2\n"


def test_a_missing_pysqlite3_is_an_error_if_selected() -> None:
    hidden = "import sys; sys.modules['pysqlite3'] = None; " + IMPORT_DRIVER
    refused = run(hidden, IMAGEKEEP_SQLITE_DRIVER="pysqlite3")

    assert "FailedPreconditionError: IMAGEKEEP_SQLITE_DRIVER is pysqlite3: " in refused.stderr
    assert refused.stdout == ""


def test_an_unknown_driver_is_refused_naming_the_known_ones() -> None:
    refused = run(IMPORT_DRIVER, IMAGEKEEP_SQLITE_DRIVER="sqlite4")

    assert (
        "FailedPreconditionError: IMAGEKEEP_SQLITE_DRIVER is 'sqlite4'; must be pysqlite3 or sqlite3"
        in refused.stderr
    )


def test_a_sqlite_without_strict_tables_is_refused_naming_the_oldest_supported() -> None:
    older = "import sqlite3; sqlite3.sqlite_version_info = (3, 36, 9); " + IMPORT_DRIVER
    refused = run(older, IMAGEKEEP_SQLITE_DRIVER="sqlite3")

    assert "is too old: imagekeep needs 3.37" in refused.stderr


def test_sqlalchemy_uses_the_selected_driver() -> None:
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
