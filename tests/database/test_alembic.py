from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from imagekeep.database import schema
from imagekeep.database.connection import connect
from imagekeep.database.engine import make_engine
from imagekeep.database.migrate import make_file, open_or_create, read_revision
from imagekeep.database.revision import HEAD, REVISIONS
from tests.database.rows import schema_of
from tests.database.stores import CHECKOUT, foreign, move

if TYPE_CHECKING:
    from pathlib import Path


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run alembic's command line in the checkout."""
    inherited = {name: value for name, value in os.environ.items() if name != "IMAGEKEEP_STORE"}
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=CHECKOUT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_migrations_make_the_schema_that_the_store_writes_through(path: Path, store_path: Path) -> None:
    make_file(path)
    with make_engine(lambda: connect(path)).begin() as connection:
        schema.metadata.create_all(connection)

    assert schema_of(store_path) == schema_of(path)


def test_every_revision_is_known_and_the_last_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(CHECKOUT / "migrations"))
    scripts = ScriptDirectory.from_config(config)

    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [HEAD]


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_alembic_moves_a_store_up_and_down(path: Path, named_by: str) -> None:
    arguments = ("-x", f"store={path}") if named_by == "argument" else ()
    environment = {} if named_by == "argument" else {"IMAGEKEEP_STORE": str(path)}

    up = alembic(*arguments, "upgrade", "head", **environment)
    after_up = read_revision(path)
    down = alembic(*arguments, "downgrade", "base", **environment)

    assert (up.returncode, after_up) == (0, HEAD), up.stderr
    assert (down.returncode, read_revision(path), schema_of(path)) == (0, None, {}), down.stderr


@pytest.mark.parametrize(("verb", "step", "expected"), [("upgrade", "+1", "0002"), ("downgrade", "-1", None)])
def test_alembic_moves_a_store_by_one_step(old: Path, verb: str, step: str, expected: str | None) -> None:
    moved = alembic("-x", f"store={old}", verb, step)

    assert (moved.returncode, read_revision(old)) == (0, expected), moved.stderr


def test_a_store_that_went_down_to_nothing_comes_up_again(store_path: Path) -> None:
    move(command.downgrade, store_path, "base")

    open_or_create(store_path)

    assert read_revision(store_path) == HEAD


def test_alembic_check_finds_no_difference(store_path: Path) -> None:
    checked = alembic("-x", f"store={store_path}", "check")

    assert checked.returncode == 0, checked.stderr
    assert "No new upgrade operations detected" in checked.stdout


def test_alembic_current_says_the_revision(old: Path) -> None:
    assert alembic("-x", f"store={old}", "current").stdout == "0001\n"


def test_alembic_current_of_the_newest_says_so(store_path: Path) -> None:
    assert alembic("-x", f"store={store_path}", "current").stdout == f"{HEAD} (head)\n"


def test_alembic_without_a_store_says_how_to_name_one() -> None:
    refused = alembic("upgrade", "head")

    assert refused.returncode != 0
    assert "give -x store=PATH" in refused.stdout + refused.stderr


def test_alembic_writes_no_script_of_sql(path: Path) -> None:
    refused = alembic("-x", f"store={path}", "upgrade", "head", "--sql")

    assert refused.returncode != 0
    assert "there is no --sql mode" in refused.stdout + refused.stderr


@pytest.mark.parametrize("arguments", [("upgrade", "head"), ("current",), ("check",)])
def test_alembic_leaves_the_database_of_another_program_alone(path: Path, arguments: tuple[str, ...]) -> None:
    foreign(path, "CREATE TABLE notes (text)")
    before = path.read_bytes()

    refused = alembic("-x", f"store={path}", *arguments)

    assert "another program's database" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert path.read_bytes() == before
