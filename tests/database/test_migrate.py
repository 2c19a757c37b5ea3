from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from alembic import command

from imagekeep import Store
from imagekeep.database.check import find_problems
from imagekeep.database.create import read_revision
from imagekeep.database.migrate import migrate
from imagekeep.database.revision import HEAD, REVISIONS
from imagekeep.errors import SchemaVersionError
from imagekeep.image import Observation
from imagekeep.internals import apply_observations
from tests.database.rows import TARGET, contents, contents_before_platforms, digest_of, opened, pin, schema_of
from tests.database.stores import at_revision, backups_of, move, thawed
from tests.model import IMAGES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_has_the_schema_of_its_revision(revision: str, path: Path, tmp_path: Path) -> None:
    assert schema_of(thawed(revision, path)) == schema_of(at_revision(revision, tmp_path / "made.db"))


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_ids_in_a_frozen_store_are_the_digests_of_its_configs(revision: str, path: Path) -> None:
    configs = "documents ON blob_key = config_key" if revision >= "0005" else "configs USING (image_key)"
    with opened(thawed(revision, path)) as connection:
        rows = connection.execute(f"SELECT id, document FROM images JOIN {configs}").fetchall()

    assert len(rows) == 4
    assert [image_id for image_id, _ in rows] == [digest_of(document) for _, document in rows]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_keeps_every_row_when_upgraded(revision: str, path: Path) -> None:
    before = contents(thawed(revision, path))

    migration = migrate(path)

    assert (migration.before, migration.after, read_revision(path)) == (revision, HEAD, HEAD)
    after = contents(path) if revision >= "0005" else contents_before_platforms(path)
    assert {table: after[table] for table in before} == before
    assert all(before.values())


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_has_the_newest_schema_when_upgraded(
    revision: str, path: Path, store_path: Path
) -> None:
    thawed(revision, path)

    migrate(path)

    assert schema_of(path) == schema_of(store_path)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_frozen_store_keeps_every_row_when_downgraded(revision: str, path: Path) -> None:
    before = contents(thawed(revision, path))
    migrate(path)

    move(command.downgrade, path, revision)

    assert contents(path) == before
    assert read_revision(path) == revision


def test_the_tables_of_the_first_revision_survive_a_downgrade_to_it(path: Path) -> None:
    before = contents_before_platforms(thawed(HEAD, path))

    move(command.downgrade, path, REVISIONS[0])

    after = contents(path)
    assert set(after) == {"images", "configs", "references", "pinned_refs", "ref_cache"}
    assert after == {table: before[table] for table in after}


UNKNOWN = {
    "blobs": "SELECT count(*) FROM blobs WHERE media_type NOTNULL OR present NOTNULL",
    "ref_cache": "SELECT count(*) FROM ref_cache WHERE manifest_key NOTNULL",
    "reference_history": "SELECT count(*) FROM reference_history WHERE size NOTNULL OR platform NOTNULL",
    "image_usage": "SELECT count(*) FROM image_usage WHERE last_used NOTNULL OR uses > 0",
    "content_look": "SELECT count(*) FROM content_look WHERE coalesce(blobs_at, containers_at) NOTNULL",
}


@pytest.mark.parametrize("revision", REVISIONS[:4])
def test_what_an_upgraded_store_does_not_know_is_null(revision: str, path: Path) -> None:
    migrate(thawed(revision, path))

    with opened(path) as connection:
        known = {table: connection.execute(UNKNOWN[table]).fetchone()[0] for table in UNKNOWN}
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in UNKNOWN}
        assert list(find_problems(connection)) == []
    assert known == dict.fromkeys(UNKNOWN, 0)
    assert all(rows.values())
    after = contents(path)
    assert [after[table] for table in ("manifests", "manifest_layers", "target_manifests", "chains")] == [
        []
    ] * 4


def test_an_upgraded_image_was_first_seen_in_its_first_change(path: Path) -> None:
    migrate(thawed("0004", path))

    with opened(path) as connection:
        seen = connection.execute(
            "SELECT image_id, first_seen, min(at)"
            " FROM image_usage JOIN reference_history USING (image_id) GROUP BY image_id"
        ).fetchall()
    assert len(seen) == 4
    assert all(first == change for _, first, change in seen)


@pytest.fixture
def mixed(path: Path) -> Path:
    """A store of revision 0004 that was updated for another platform than most of its references once."""
    with opened(thawed("0004", path)) as connection:
        connection.execute("UPDATE ref_cache SET platform = 'linux/arm64' WHERE reference = ?", (ARM64,))
        connection.execute("UPDATE ref_cache SET target_digest = ? WHERE reference = ?", (TARGET, ARM64))
    return path


ARM64 = "docker.io/library/busybox:1.35"


def test_the_first_platform_of_an_upgraded_store_is_that_of_most_references(mixed: Path) -> None:
    before = contents(mixed)

    migrate(mixed)

    after = contents_before_platforms(mixed)
    assert contents(mixed)["platforms"] == [(0, "linux/amd64")]
    assert after["references"] == before["references"]
    assert after["ref_cache"] == [row for row in before["ref_cache"] if row[0] != ARM64]
    with opened(mixed) as connection:
        assert connection.execute("SELECT count(*) FROM blobs WHERE digest = ?", (TARGET,)).fetchone() == (0,)


def test_the_first_platform_is_unknown_if_no_source_was_asked(path: Path) -> None:
    with opened(thawed("0004", path)) as connection:
        connection.execute("DELETE FROM ref_cache")

    migrate(path)

    assert contents(path)["platforms"] == [(0, None)]


def test_a_downgrade_keeps_the_images_and_changes_of_the_first_platform(path: Path, tmp_path: Path) -> None:
    only, both = {}, {"linux/amd64": IMAGES[0], "linux/arm64": IMAGES[1]}
    for name, platforms in (("only.db", ["linux/amd64"]), ("both.db", list(both))):
        with Store.open(tmp_path / name, platforms=platforms) as store:
            said = Observation({platform: both[platform] for platform in platforms}, tuple(platforms))
            apply_observations(store, {"app:1": said})
        move(command.downgrade, tmp_path / name, "0004")
        only[name] = contents(tmp_path / name)
        with opened(tmp_path / name) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []

    for table in ("images", "configs", "references", "pinned_refs"):
        assert only["both.db"][table] == only["only.db"][table]
    changes = [[row[1:4] for row in only[name]["reference_history"]] for name in only]
    assert changes == [[("app:1", IMAGES[0].id, IMAGES[0].target_digest)]] * 2


def test_the_history_begins_with_the_image_of_every_reference(old: Path) -> None:
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


def test_the_history_begins_at_the_last_verification(old: Path) -> None:
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


def test_an_existing_history_is_kept(path: Path) -> None:
    columns = "sequence, reference, image_id, target_digest, pinned, event, at"
    everything = f"SELECT {columns} FROM reference_history ORDER BY sequence"
    with opened(thawed("0002", path)) as connection:
        before = connection.execute(everything).fetchall()

    migrate(path)

    with opened(path) as connection:
        assert connection.execute(everything).fetchall() == before


def test_an_upgrade_keeps_a_backup(old: Path) -> None:
    before = contents(old)

    migration = migrate(old)

    assert backups_of(old) == [migration.backup]
    assert migration.backup is not None
    assert migration.backup.stat().st_mode & 0o777 == 0o600
    assert read_revision(migration.backup) == "0001"
    assert contents(migration.backup) == before


def test_a_downgrade_keeps_a_backup(store_path: Path) -> None:
    move(command.downgrade, store_path, "0001")

    assert [read_revision(backup) for backup in backups_of(store_path)] == [HEAD]


def test_migrating_to_the_current_revision_changes_nothing_and_keeps_no_backup(store_path: Path) -> None:
    before = store_path.read_bytes()

    migration = migrate(store_path)

    assert (migration.before, migration.after, migration.backup) == (HEAD, HEAD, None)
    assert not backups_of(store_path)
    assert store_path.read_bytes() == before


def test_a_dry_run_reports_the_migration_and_leaves_the_file_unchanged(old: Path) -> None:
    before = old.read_bytes()

    migration = migrate(old, dry_run=True)

    assert (migration.before, migration.after, migration.backup) == ("0001", HEAD, None)
    assert old.read_bytes() == before
    assert not backups_of(old)


def test_a_broken_foreign_key_stops_a_migration_naming_the_tables(old: Path) -> None:
    with opened(old) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("INSERT INTO configs VALUES (77, x'7b7d')")
    before = old.read_bytes()

    with pytest.raises(SchemaVersionError, match="row 77 of table documents lacks its row of blobs; nothing"):
        migrate(old)
    assert old.read_bytes() == before
    assert not backups_of(old)  # repeated attempts do not fill the disk


def test_a_broken_foreign_key_of_a_table_without_rowid_stops_a_migration(old: Path) -> None:
    with opened(old) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        pin(connection, "nobody", 1)

    with pytest.raises(SchemaVersionError, match="a row of table pinned_refs lacks its row of references"):
        migrate(old)


def test_every_new_or_migrated_store_gets_its_own_id(store_path: Path, tmp_path: Path) -> None:
    paths = [store_path, thawed("0003", tmp_path / "one.db"), thawed("0003", tmp_path / "two.db")]
    for path in paths:
        migrate(path)

    rows = [row for path in paths for row in contents(path)["identity"]]

    assert len({store_id for _, store_id, *_ in rows}) == 3
    assert [(len(store_id), source, namespace) for _, store_id, source, namespace in rows] == [
        (32, None, None)
    ] * 3
