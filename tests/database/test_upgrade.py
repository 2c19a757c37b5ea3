from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from imagekeep.database import schema
from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from imagekeep.database.engine import make_engine
from imagekeep.database.revision import APPLICATION_ID, HEAD, REVISIONS, find_revision
from imagekeep.database.upgrade import Migration, make_file, migrate, open_or_create, read_revision
from imagekeep.errors import (
    CorruptStoreError,
    ImagekeepError,
    NotAStoreError,
    PermissionDeniedError,
    SchemaVersionError,
    StoreUnavailableError,
)
from tests.database.rows import add_image, cache, contents, digest_of, opened, pin, schema_of
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[2]
STORES = CHECKOUT / "tests" / "data" / "stores"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be; there is none yet."""
    return tmp_path / "another.db"


@pytest.fixture
def old(path: Path) -> Path:
    """The frozen store of revision 0001, in WAL mode as imagekeep leaves it."""
    return thawed("0001", path)


def thawed(revision: str, path: Path) -> Path:
    """Copy the frozen store of a revision to `path`, and open it once to put it into WAL mode."""
    shutil.copyfile(STORES / f"{revision}.db", path)
    path.chmod(0o600)
    with opened(path):
        return path


def at_revision(revision: str, path: Path) -> Path:
    """Make an empty store of a revision by the migrations."""
    make_file(path)
    move(command.upgrade, path, revision)
    return path


def move(
    verb: Callable[[Config, str], None], path: Path, revision: str, *, scripts: Path | None = None
) -> None:
    """Move a store up or down by alembic's own command, with other scripts than the checkout's if given."""
    config = Config(attributes={"migration": Migration(path)})
    config.set_main_option("script_location", str(scripts or CHECKOUT / "migrations"))
    verb(config, revision)


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


def backups_of(path: Path) -> list[Path]:
    """Return the copies that were made before the store at `path` was moved."""
    return sorted(path.parent.glob(f"{path.name}.*.backup"))


def set_revision(path: Path, revision: str) -> None:
    """Write a revision into a store by hand."""
    with opened(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


# --- a file is made


def test_a_store_is_made_at_the_newest_revision(path: Path) -> None:
    open_or_create(path)

    assert read_revision(path) == HEAD


def test_a_new_store_has_the_mark_of_a_store(path: Path) -> None:
    open_or_create(path)

    with opened(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_new_store_and_its_folder_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_or_create(tmp_path / "folder" / "images.db")
    finally:
        os.umask(before)

    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in (tmp_path / "folder").iterdir()} == {0o600}


def test_a_store_is_opened_again_as_it_is(store_path: Path) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    before = store_path.read_bytes()

    open_or_create(store_path)

    assert store_path.read_bytes() == before


def test_no_backup_is_made_of_a_store_that_is_new(path: Path) -> None:
    open_or_create(path)

    assert not backups_of(path)


def test_an_empty_file_is_adopted(path: Path) -> None:
    path.touch()

    open_or_create(path)

    assert read_revision(path) == HEAD


CREATE_TOGETHER = """
import sys
from pathlib import Path
from imagekeep.database.upgrade import open_or_create, read_revision
print("ready", flush=True)
sys.stdin.readline()
open_or_create(Path(sys.argv[1]))
print(read_revision(Path(sys.argv[1])))
"""


def test_processes_that_make_one_store_at_once_all_have_it(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_TOGETHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    answers = [process.communicate() for process in processes]

    assert answers == [(f"{HEAD}\n", "")] * len(processes)


def test_a_store_that_is_made_while_its_file_is_looked_at_is_no_other_programs(path: Path) -> None:
    path.touch()
    seen = []

    def make_before_the_second(statement: str) -> None:
        seen.append(statement)
        if len(seen) == 2:
            migrate(path)

    with contextlib.closing(connect(path, read_only=True)) as connection:
        connection.set_trace_callback(make_before_the_second)
        assert find_revision(connection, path) is None
    assert len(seen) >= 2


# --- the schema is what schema.py says


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


# --- alembic's own command line


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


# --- another schema


def test_a_newer_schema_is_refused_naming_both_revisions(store_path: Path) -> None:
    set_revision(store_path, "0999")

    with pytest.raises(SchemaVersionError, match=f"revision 0999, newer than {HEAD}"):
        open_or_create(store_path)


def test_a_newer_schema_is_not_moved(store_path: Path) -> None:
    set_revision(store_path, "0999")
    before = store_path.read_bytes()

    with pytest.raises(SchemaVersionError, match=f"revision 0999, newer than {HEAD}"):
        migrate(store_path)
    assert store_path.read_bytes() == before


def test_an_older_schema_is_refused_with_the_command_that_moves_it(old: Path) -> None:
    before = old.read_bytes()

    with pytest.raises(SchemaVersionError) as caught:
        open_or_create(old)
    assert f"its schema is revision 0001, this imagekeep needs {HEAD}" in str(caught.value)
    assert f"`imagekeep --store {old} db migrate`" in str(caught.value)
    assert old.read_bytes() == before


# --- what is no store


def foreign(path: Path, *statements: str) -> None:
    """Make another program's database."""
    connection = sqlite.connect(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


OTHER_PROGRAMS = {
    "tables": ["CREATE TABLE notes (text)"],
    "a mark": ["PRAGMA application_id = 252006674"],
    "a mark and tables": ["PRAGMA application_id = 252006674", "CREATE TABLE notes (text)"],
    "alembic's table": ["CREATE TABLE alembic_version (version_num)"],
    "WAL mode": ["PRAGMA journal_mode = WAL", "CREATE TABLE notes (text)"],
}


@pytest.mark.parametrize("statements", OTHER_PROGRAMS.values(), ids=OTHER_PROGRAMS)
@pytest.mark.parametrize("open_it", [open_or_create, migrate])
def test_the_database_of_another_program_is_refused_and_untouched(
    path: Path, statements: list[str], open_it: Callable[[Path], object]
) -> None:
    foreign(path, *statements)
    before = path.read_bytes()

    with pytest.raises(NotAStoreError, match="another program's database"):
        open_it(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path) -> None:
    path.write_text("notes\n" * 1000)

    with pytest.raises(NotAStoreError, match="not a SQLite database"):
        open_or_create(path)
    assert path.read_text() == "notes\n" * 1000


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="not a file"):
        open_or_create(tmp_path)


@pytest.mark.parametrize("target", ["images.db", "nowhere.db"])
def test_a_symbolic_link_is_refused_and_not_followed(store_path: Path, target: str) -> None:
    link = store_path.with_name("link.db")
    link.symlink_to(store_path.with_name(target))
    before = set(store_path.parent.iterdir())

    with pytest.raises(NotAStoreError, match="a symbolic link"):
        open_or_create(link)
    assert set(store_path.parent.iterdir()) == before


@pytest.mark.parametrize("size", [1, 99, 100, 512, 4095, 4096, 8192, 20_000])
def test_a_truncated_store_is_refused_and_untouched(store_path: Path, size: int) -> None:
    os.truncate(store_path, size)
    before = store_path.read_bytes()

    with pytest.raises((CorruptStoreError, NotAStoreError)):
        open_or_create(store_path)
    assert store_path.read_bytes() == before


def test_a_name_with_a_nul_is_an_error_of_ours() -> None:
    with pytest.raises(ImagekeepError):
        open_or_create(Path("images\0.db"))


def test_a_file_beneath_a_file_is_an_error_that_names_it(store_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"images\.db/images\.db"):
        open_or_create(store_path / "images.db")


def test_a_folder_without_permission_says_how_to_choose_another(public_folder: Path) -> None:
    public_folder.chmod(0o555)

    with without_privileges(), pytest.raises(PermissionDeniedError, match="--store or IMAGEKEEP_STORE"):
        open_or_create(public_folder / "images.db")


# --- a store is moved


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_has_the_schema_of_its_revision(revision: str, path: Path, tmp_path: Path) -> None:
    assert schema_of(thawed(revision, path)) == schema_of(at_revision(revision, tmp_path / "made.db"))


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_ids_in_a_frozen_store_are_the_digests_of_its_configs(revision: str, path: Path) -> None:
    with opened(thawed(revision, path)) as connection:
        rows = connection.execute("SELECT id, document FROM images JOIN configs USING (image_key)").fetchall()

    assert len(rows) == 4
    assert [image_id for image_id, _ in rows] == [digest_of(document) for _, document in rows]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_keeps_every_row_on_its_way_up(revision: str, path: Path) -> None:
    before = contents(thawed(revision, path))

    migration = migrate(path)

    assert (migration.before, migration.after, read_revision(path)) == (revision, HEAD, HEAD)
    after = contents(path)
    assert {table: after[table] for table in before} == before
    assert all(before.values())


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_has_the_newest_schema_after_its_way_up(
    revision: str, path: Path, store_path: Path
) -> None:
    thawed(revision, path)

    migrate(path)

    assert schema_of(path) == schema_of(store_path)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_keeps_every_row_on_its_way_down(revision: str, path: Path) -> None:
    before = contents(thawed(revision, path))
    migrate(path)

    move(command.downgrade, path, revision)

    assert contents(path) == before
    assert read_revision(path) == revision


def test_the_tables_of_the_first_revision_are_kept_on_the_way_down_to_it(path: Path) -> None:
    before = contents(thawed(HEAD, path))

    move(command.downgrade, path, REVISIONS[0])

    after = contents(path)
    assert set(after) == {"images", "configs", "references", "pinned_refs", "ref_cache"}
    assert after == {table: before[table] for table in after}


def test_the_history_begins_with_what_every_reference_names(old: Path) -> None:
    with opened(old) as connection:
        expected = connection.execute(
            "SELECT reference, image_id, target_digest, pinned, 'recorded' FROM reference_list ORDER BY reference"
        ).fetchall()

    migrate(old)

    with opened(old) as connection:
        recorded = connection.execute(
            "SELECT reference, image_id, target_digest, pinned, event FROM reference_history ORDER BY reference"
        ).fetchall()
    assert recorded == expected
    assert sum(pinned for *_, pinned, _ in recorded) == 2


def test_the_history_begins_when_the_source_last_spoke(old: Path) -> None:
    migrate(old)

    with opened(old) as connection:
        rows = connection.execute(
            "SELECT at, verified_at, strftime('%s', 'now') * 1000000 FROM reference_history"
            " LEFT JOIN ref_cache USING (reference) ORDER BY sequence"
        ).fetchall()
    known = [(at, verified) for at, verified, _ in rows if verified is not None]
    unknown = [abs(now - at) < 600_000_000 for at, verified, now in rows if verified is None]
    assert [at for at, _ in known] == sorted(verified for _, verified in known)
    assert unknown == [True]


def test_the_history_of_a_store_that_has_one_is_kept(path: Path) -> None:
    everything = "SELECT * FROM reference_history ORDER BY sequence"
    with opened(thawed("0002", path)) as connection:
        before = connection.execute(everything).fetchall()

    migrate(path)

    with opened(path) as connection:
        assert connection.execute(everything).fetchall() == before


def test_a_copy_is_kept_from_before_a_move(old: Path) -> None:
    before = contents(old)

    migration = migrate(old)

    assert backups_of(old) == [migration.backup]
    assert migration.backup is not None
    assert migration.backup.stat().st_mode & 0o777 == 0o600
    assert read_revision(migration.backup) == "0001"
    assert contents(migration.backup) == before


def test_a_copy_is_kept_from_before_a_way_down(store_path: Path) -> None:
    move(command.downgrade, store_path, "0001")

    assert [read_revision(backup) for backup in backups_of(store_path)] == [HEAD]


def test_a_move_to_where_the_store_is_changes_nothing_and_keeps_no_copy(store_path: Path) -> None:
    before = store_path.read_bytes()

    migration = migrate(store_path)

    assert (migration.before, migration.after, migration.backup) == (HEAD, HEAD, None)
    assert not backups_of(store_path)
    assert store_path.read_bytes() == before


def test_a_dry_run_says_what_it_would_do_and_leaves_the_file_as_it_was(old: Path) -> None:
    before = old.read_bytes()

    migration = migrate(old, dry_run=True)

    assert (migration.before, migration.after, migration.backup) == ("0001", HEAD, None)
    assert old.read_bytes() == before
    assert not backups_of(old)


def test_a_broken_foreign_key_stops_a_move_naming_the_tables(old: Path) -> None:
    with opened(old) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("INSERT INTO configs VALUES (77, x'7b7d')")
    before = old.read_bytes()

    with pytest.raises(SchemaVersionError, match="row 77 of table configs lacks its row of images; nothing"):
        migrate(old)
    assert old.read_bytes() == before


def test_a_broken_foreign_key_of_a_table_without_row_numbers_stops_a_move(old: Path) -> None:
    with opened(old) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        pin(connection, "nobody", 1)

    with pytest.raises(SchemaVersionError, match="a row of table pinned_refs lacks its row of references"):
        migrate(old)


# --- a revision that is yet to come


REBUILD_IMAGES = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "0999", {head!r}, None, None

def upgrade():
    op.execute("CREATE TABLE fresh (image_key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
               " chain_id TEXT NOT NULL, size INTEGER NOT NULL CHECK ({condition})) STRICT")
    op.execute("INSERT INTO fresh SELECT * FROM images")
    for what in {names}:
        op.execute(f"DROP {{what}}")
    op.execute("DROP TABLE images")
    op.execute("ALTER TABLE fresh RENAME TO images")

def downgrade():
    pass
"""


NAME_IMAGES = [
    "VIEW image_list",
    "VIEW reference_list",
    "VIEW config_list",
    "TRIGGER an_image_goes_with_its_last_reference",
    "TRIGGER an_image_goes_when_its_last_reference_moves",
]


def scripts_with(tmp_path: Path, condition: str) -> Path:
    """Copy the migrations, and add one that rebuilds `images` with a condition on its sizes."""
    scripts = shutil.copytree(CHECKOUT / "migrations", tmp_path / "scripts")
    text = REBUILD_IMAGES.format(head=HEAD, condition=condition, names=NAME_IMAGES)
    (scripts / "versions" / "0999_rebuild.py").write_text(text)
    return scripts


def test_rebuilding_a_table_keeps_the_rows_that_would_cascade_from_it(
    store_path: Path, tmp_path: Path
) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b")
        pin(connection, "a", 1)
        cache(connection, "a", 1)
    before = contents(store_path)

    move(command.upgrade, store_path, "head", scripts=scripts_with(tmp_path, "size > 0"))

    assert contents(store_path) == before
    assert {table for table, rows in before.items() if rows} == {
        *("images", "configs", "references", "pinned_refs", "ref_cache")
    }


def test_a_row_that_a_new_schema_forbids_stops_the_move_and_changes_nothing(
    store_path: Path, tmp_path: Path
) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    before = store_path.read_bytes()

    with pytest.raises(
        SchemaVersionError, match=r"does not fit the new schema \(CHECK .*nothing was changed"
    ):
        move(command.upgrade, store_path, "head", scripts=scripts_with(tmp_path, "size < 0"))
    assert store_path.read_bytes() == before


def test_a_move_that_was_stopped_works_once_its_cause_is_gone(store_path: Path, tmp_path: Path) -> None:
    scripts = scripts_with(tmp_path, "size < 0")
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
    with pytest.raises(SchemaVersionError):
        move(command.upgrade, store_path, "head", scripts=scripts)

    with opened(store_path) as connection:
        connection.execute("DELETE FROM images")
    move(command.upgrade, store_path, "head", scripts=scripts)

    assert read_revision(store_path) == "0999"
