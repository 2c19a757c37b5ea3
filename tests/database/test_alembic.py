from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from imagekeep.database.create import open_or_create, read_revision
from imagekeep.database.revision import HEAD, REVISIONS
from tests.database.rows import contents, opened, schema_of
from tests.database.stores import CHECKOUT, at_revision, backups_of, foreign, move, thawed

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


def test_a_new_store_equals_a_migrated_one(path: Path, store_path: Path) -> None:
    at_revision(HEAD, path)

    assert schema_of(store_path) == schema_of(path)
    assert everything_but_the_id(store_path) == everything_but_the_id(path)


def everything_but_the_id(path: Path) -> dict[str, list[Any]]:
    """Return every row of a store without its id, and the file's pragmas."""
    with opened(path) as connection:
        connection.execute("UPDATE identity SET store_id = 'hidden'")
        about = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "page_size")]
        revision = connection.execute("SELECT * FROM alembic_version").fetchall()
    return contents(path) | {"revision": revision, "about": about}


def test_every_revision_is_listed_and_the_last_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(CHECKOUT / "migrations"))
    scripts = ScriptDirectory.from_config(config)

    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_heads() == [HEAD]


@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_alembic_upgrades_and_downgrades_a_store(path: Path, named_by: str) -> None:
    arguments = ("-x", f"store={path}") if named_by == "argument" else ()
    environment = {} if named_by == "argument" else {"IMAGEKEEP_STORE": str(path)}

    up = alembic(*arguments, "upgrade", "head", **environment)
    after_up = read_revision(path)
    down = alembic(*arguments, "downgrade", "base", **environment)

    assert (up.returncode, after_up) == (0, HEAD), up.stderr
    assert (down.returncode, read_revision(path), schema_of(path)) == (0, None, {}), down.stderr


@pytest.mark.parametrize(("verb", "step", "expected"), [("upgrade", "+1", "0002"), ("downgrade", "-1", None)])
def test_alembic_upgrades_a_store_by_one_step(old: Path, verb: str, step: str, expected: str | None) -> None:
    moved = alembic("-x", f"store={old}", verb, step)

    assert (moved.returncode, read_revision(old)) == (0, expected), moved.stderr


def test_a_store_downgraded_to_base_can_be_upgraded_again(store_path: Path) -> None:
    move(command.downgrade, store_path, "base")

    open_or_create(store_path)

    assert read_revision(store_path) == HEAD


def test_alembic_check_finds_no_difference(store_path: Path) -> None:
    checked = alembic("-x", f"store={store_path}", "check")

    assert checked.returncode == 0, checked.stderr
    assert "No new upgrade operations detected" in checked.stdout


def test_alembic_current_prints_the_revision(old: Path) -> None:
    assert alembic("-x", f"store={old}", "current").stdout == "0001\n"


def test_alembic_current_marks_the_newest_revision(store_path: Path) -> None:
    assert alembic("-x", f"store={store_path}", "current").stdout == f"{HEAD} (head)\n"


def test_alembic_without_a_store_says_how_to_give_one() -> None:
    refused = alembic("upgrade", "head")

    assert refused.returncode != 0
    assert "give -x store=PATH" in refused.stdout + refused.stderr


def test_alembic_offline_mode_is_refused(path: Path) -> None:
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


def test_alembic_prints_the_path_of_the_backup(store_path: Path) -> None:
    moved = alembic("-x", f"store={store_path}", "downgrade", "-1")

    assert moved.stdout.splitlines() == [f"backup: {backup}" for backup in backups_of(store_path)]
    assert len(backups_of(store_path)) == 1


@pytest.mark.parametrize("command", ["current", "check"])
def test_alembic_reports_a_missing_store(path: Path, command: str) -> None:
    refused = alembic("-x", f"store={path}", command)

    assert refused.returncode != 0
    assert f"no store at {path}" in refused.stdout + refused.stderr
    assert not path.exists()


def test_alembic_stamp_is_refused(store_path: Path) -> None:
    refused = alembic("-x", f"store={store_path}", "stamp", "0001")

    assert "only upgrade and downgrade" in refused.stdout + refused.stderr
    assert read_revision(store_path) == HEAD


def test_a_revision_added_by_others_is_applied_by_alembics_command_only(tmp_path: Path, path: Path) -> None:
    """A file made by `alembic revision` is ignored by a new store and by `db migrate`."""
    scripts = tmp_path / "migrations"
    shutil.copytree(CHECKOUT / "migrations", scripts)
    (scripts / "versions" / "9999_mine.py").write_text(
        f"from alembic import op\nrevision = '9999'\ndown_revision = '{HEAD}'\n"
        "def upgrade():\n    op.execute('CREATE TABLE mine (a)')\n"
    )
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from imagekeep import Store\nfrom imagekeep.database import migrate\n"
        "migrate.files = lambda package: Path(sys.argv[1])\n"
        "Store.open(sys.argv[2]).close()\nprint(migrate.migrate(Path(sys.argv[3])).after)\n"
    )
    old = thawed("0001", tmp_path / "old.db")

    done = subprocess.run(
        [sys.executable, "-c", program, scripts, path, old], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == (f"{HEAD}\n", "")
    assert read_revision(path) == read_revision(old) == HEAD
