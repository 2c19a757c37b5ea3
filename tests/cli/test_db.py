"""`imagekeep db`: the commands that manage the store file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.revision import HEAD, REVISIONS

if TYPE_CHECKING:
    from tests.cli.conftest import Run

STORES = Path(__file__).parents[1] / "data" / "stores"


@pytest.fixture
def old_store(directory: Path) -> Path:
    """A store of the oldest revision, with images in it."""
    shutil.copy(STORES / f"{REVISIONS[0]}.db", directory / "old.db")
    return directory / "old.db"


def execute(store: Path, statement: str) -> None:
    """Write to a store without its constraints, as another program could."""
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
        connection.commit()


def test_info_describes_the_store(run: Run) -> None:
    document = json.loads(run("db", "info", "-o", "json").out)
    assert document["oldestVerified"] <= document["newestVerified"]
    assert document["size"] >= Path("images.db").stat().st_size
    assert {name: document[name] for name in ("path", "revision", "advice", "images", "references")} == {
        "path": "images.db",
        "revision": HEAD,
        "advice": None,
        "images": 2,
        "references": 5,
    }


def test_info_is_a_table(run: Run) -> None:
    rows = dict(line.split("   ", 1) for line in run("db", "info").lines)
    assert rows["store"].strip() == "images.db"
    assert rows["pinned references"].strip() == "2"


def test_info_of_an_older_store_names_the_command_to_run(run: Run, old_store: Path) -> None:
    result = run("--store", old_store, "db", "info")
    assert result.code == 0
    assert f"run `imagekeep --store {old_store} db migrate`" in result.out
    assert "references          15" in result.out


def test_info_of_a_newer_store_names_both_revisions(run: Run, directory: Path) -> None:
    execute(directory / "images.db", "UPDATE alembic_version SET version_num = '9999'")
    result = run("db", "info")
    assert result.code == 0
    assert "revision 9999, newer than" in result.out


def test_check_counts_what_it_verified(run: Run) -> None:
    result = run("db", "check")
    assert (result.code, result.out) == (0, "ok: 2 images, 5 references, 2 pinned references\n")


def test_check_names_the_broken_row(run: Run, directory: Path) -> None:
    execute(directory / "images.db", """DELETE FROM ref_cache WHERE reference LIKE '%1.36'""")
    execute(directory / "images.db", """UPDATE "references" SET sort_rank = 5 WHERE name LIKE '%1.36'""")
    result = run("db", "check")
    assert (result.code, result.err) == (125, "Error: store images.db: 1 broken invariant\n")
    assert result.out.startswith("references docker.io/library/busybox:1.36: ")


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("ANALYZE", "table sqlite_stat1"),
        ("CREATE INDEX mine ON images (size)", "index mine"),
        ("CREATE TABLE _litestream_seq (id INTEGER)", "table _litestream_seq"),
    ],
)
def test_check_lists_objects_of_other_programs(run: Run, directory: Path, statement: str, name: str) -> None:
    execute(directory / "images.db", statement)
    result = run("db", "check")
    assert result.code == 0
    assert f"note: {name} was not created by imagekeep" in result.lines
    assert result.lines[-1].startswith("ok: ")


def test_check_names_the_changed_table(run: Run, directory: Path) -> None:
    execute(directory / "images.db", "ALTER TABLE images ADD COLUMN note TEXT")
    result = run("db", "check")
    assert (result.code, result.out) == (125, "table images: is changed\n")


def test_check_of_a_damaged_file_is_an_error(run: Run, directory: Path) -> None:
    (directory / "images.db").write_bytes((directory / "images.db").read_bytes()[:5000])
    result = run("db", "check")
    assert result.code == 125
    assert result.err.startswith("Error: store images.db: ")


def test_migrate_upgrades_an_older_store(run: Run, old_store: Path) -> None:
    result = run("--store", old_store, "db", "migrate")
    migrated, copied = result.lines
    assert migrated == f"migrated from revision {REVISIONS[0]} to {HEAD}"
    assert Path(copied.removeprefix("backup: ")).read_bytes()
    assert run("--store", old_store, "images", "-q").code == 0


def test_migrate_dry_run_changes_nothing(run: Run, old_store: Path) -> None:
    result = run("--store", old_store, "db", "migrate", "--dry-run")
    assert (
        result.out == f"dry run: would migrate from revision {REVISIONS[0]} to {HEAD}; nothing was changed\n"
    )
    assert json.loads(run("--store", old_store, "db", "info", "-o", "json").out)["revision"] == REVISIONS[0]


def test_second_migrate_does_nothing(run: Run) -> None:
    assert run("db", "migrate").out == f"nothing to do: the schema is at revision {HEAD}\n"


def test_backup_name_has_revision_and_time(run: Run, directory: Path) -> None:
    [name] = run("db", "backup").lines
    assert name.startswith(f"images.db.{HEAD}.")
    assert run("--store", name, "images").out == run("images").out


def test_backup_of_an_older_store_needs_no_migration(run: Run, old_store: Path) -> None:
    assert run("--store", old_store, "db", "backup", "copy.db").out == "copy.db\n"


def test_restore_names_the_copy_and_the_backup(run: Run, directory: Path) -> None:
    run("db", "backup", "copy.db")
    result = run("db", "restore", "copy.db")
    first, second = result.lines
    assert first == "restored copy.db"
    assert (directory / second.removeprefix("backup of the previous store: ")).is_file()
    assert result.err == "run `imagekeep sync` to apply changes made since the backup\n"


@pytest.mark.parametrize("command", ["backup", "export"])
def test_copy_does_not_overwrite_a_file(run: Run, directory: Path, command: str) -> None:
    (directory / "there").write_text("mine")
    result = run("db", command, "there")
    assert (result.code, (directory / "there").read_text()) == (4, "mine")


def test_export_is_complete_without_companions(run: Run, directory: Path) -> None:
    assert run("db", "export", "exported.db").out == "exported.db\n"
    with closing(
        sqlite3.connect(f"file:{directory}/exported.db?mode=ro&immutable=1", uri=True)
    ) as connection:
        assert connection.execute("SELECT count(*) FROM image_list").fetchone() == (2,)


def test_copy_that_others_can_read_causes_a_warning(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate exFAT, which has no modes and which not every kernel can mount."""

    def copy_without_modes(path: Path, destination: Path) -> None:
        shutil.copyfile(path, destination)
        destination.chmod(0o755)

    monkeypatch.setattr("imagekeep.cli.db.copy_store", copy_without_modes)
    result = run("db", "export", "copy.db")
    assert (result.code, result.out) == (0, "copy.db\n")
    assert "other users may be able to read this copy" in result.err


def without(directory: Path, message: str) -> str:
    """Return a message with the directory removed from its paths."""
    return message.replace(f"{directory}/", "")


@pytest.mark.parametrize(
    "command",
    [
        ["images"],
        ["image", "inspect", "busybox"],
        ["image", "exists", "busybox"],
        ["image", "history", "busybox"],
        ["db", "info"],
        ["db", "check"],
        ["db", "migrate"],
        ["db", "backup"],
        ["db", "export", "exported.db"],
    ],
)
class TestWithoutAStore:
    """Every command except sync needs an existing store, and creates none."""

    def test_missing_store_is_named(self, run: Run, directory: Path, command: list[str]) -> None:
        result = run("--store", "none/images.db", *command)
        assert (result.code, result.out) == (125, "")
        assert (
            result.err == "Error: no store at none/images.db (`imagekeep --source SPEC sync` creates one)\n"
        )
        assert not (directory / "none").exists()

    def test_file_that_is_not_a_store_is_left_alone(
        self, run: Run, directory: Path, command: list[str]
    ) -> None:
        (directory / "letter").write_text("Dear Sir or Madam, this is no database at all.\n" * 20)
        before = (directory / "letter").read_bytes()
        result = run("--store", "letter", *command)
        assert (result.code, result.out) == (125, "")
        assert without(directory, result.err).startswith("Error: store letter: not a SQLite database")
        assert (directory / "letter").read_bytes() == before

    def test_other_programs_database_is_left_alone(
        self, run: Run, directory: Path, command: list[str]
    ) -> None:
        execute(directory / "other.db", "CREATE TABLE t (a)")
        before = (directory / "other.db").read_bytes()
        result = run("--store", "other.db", *command)
        assert (result.code, without(directory, result.err)) == (
            125,
            "Error: store other.db: another program's database; give another path\n",
        )
        assert (directory / "other.db").read_bytes() == before


@pytest.mark.parametrize("command", [["images"], ["image", "exists", "busybox"], ["db", "check"]])
def test_reading_an_older_store_names_the_command_to_run(
    run: Run, old_store: Path, command: list[str]
) -> None:
    result = run("--store", old_store, *command)
    assert result.code == 125
    assert result.err.endswith(
        f"this imagekeep needs {HEAD}; run `imagekeep --store {old_store} db migrate`\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO watcher VALUES (1, 1, {huge}, 0, NULL, NULL, NULL, 0, 0, 0, 0, {huge}, NULL)",
        "INSERT INTO incomplete_refs VALUES ('a', {huge}, 0, 0, 1)",
        "INSERT INTO incomplete_refs VALUES ({huge}, 'b', 0, 0, 1)",
        "UPDATE identity SET source = {huge}, namespace = {huge}",
        "UPDATE alembic_version SET version_num = {huge}",
    ],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_info_of_a_store_with_huge_texts_stays_small(directory: Path, statement: str, output: str) -> None:
    execute(directory / "images.db", statement.format(huge="printf('%.*c', 60000000, char(27))"))
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n"
        "from imagekeep.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--store", directory / "images.db", "db", "info", "-o", output],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) < 200_000
