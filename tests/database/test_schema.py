from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.connection import connect
from imagekeep.database.driver import sqlite
from tests.database.rows import TARGET, add_blob, add_image, cache, digest_of, pin, record, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEX = "0123456789abcdef" * 4

NO_DIGESTS = [
    "",
    HEX,
    "sha256:",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}0",
    f"sha256:{HEX[:-1]}g",
    f"sha256:{HEX.upper()}",
    f"sha256:{HEX[:-1]}٣",
    f"sha256:{HEX[:-1]}\0",
    f"sha256:{HEX}\0",
    f"sha384:{HEX}",
    f"sha512:{HEX}",
    f"sha1:{HEX[:40]}",
    f"SHA256:{HEX}",
    f"md5sum:{HEX}",
    f" ha256:{HEX}",
]

DIGESTS = [f"sha256:{HEX}", f"sha384:{HEX}{HEX[:32]}", f"sha512:{HEX}{HEX}"]


@pytest.fixture
def store(store_path: Path) -> Iterator[sqlite.Connection]:
    """A connection to an empty store."""
    with contextlib.closing(connect(store_path)) as connection:
        yield connection


@pytest.fixture
def two_images(store: sqlite.Connection) -> sqlite.Connection:
    """A store with image 1, named a and b, and image 2, named c."""
    add_image(store, 1, "a", "b", document=b"1")
    add_image(store, 2, "c", document=b"2")
    return store


@pytest.fixture
def two_platforms(two_images: sqlite.Connection) -> sqlite.Connection:
    """The same store with a second platform, which has no images."""
    two_images.execute("UPDATE platforms SET platform = 'linux/amd64'")
    two_images.execute("INSERT INTO platforms VALUES (1, 'linux/arm64')")
    return two_images


INSERT_REFERENCE = (
    'INSERT INTO "references" (name, image_key, sort_rank, sort_name, platform_key) VALUES (?, ?, ?, ?, ?)'
)


def refused_by(constraint: str) -> contextlib.AbstractContextManager[object]:
    """Expect SQLite to refuse a row, naming the constraint."""
    return pytest.raises(sqlite.IntegrityError, match=constraint)


INSERT_IMAGE = "INSERT INTO images (image_key, id, chain_id, size, config_key) VALUES (1, ?, '', ?, 1)"


@pytest.mark.parametrize("digest", NO_DIGESTS)
def test_an_id_that_is_not_a_full_digest_is_refused(store: sqlite.Connection, digest: str) -> None:
    with refused_by("images_id_is_a_digest"):
        store.execute(INSERT_IMAGE, (digest, 0))


@pytest.mark.parametrize("digest", DIGESTS)
def test_an_id_of_each_algorithm_is_accepted(store: sqlite.Connection, digest: str) -> None:
    add_blob(store, digest)
    store.execute(INSERT_IMAGE, (digest, 0))

    assert rows_of(store, "images") == [(1, digest, "", 0, 0, 1)]


def test_an_id_that_is_bytes_is_refused(store: sqlite.Connection) -> None:
    with refused_by("cannot store BLOB value in TEXT column images.id"):
        store.execute(INSERT_IMAGE, (DIGESTS[0].encode(), 0))


def test_a_size_that_is_text_is_refused(store: sqlite.Connection) -> None:
    with refused_by("cannot store TEXT value in INTEGER column images.size"):
        store.execute(INSERT_IMAGE, (DIGESTS[0], "big"))


COPY_IMAGE = "INSERT INTO images SELECT 3, id, chain_id, size, ?, config_key FROM images WHERE image_key = 1"


def test_two_images_with_one_id_are_refused(two_images: sqlite.Connection) -> None:
    with refused_by("images.platform_key, images.id"):
        two_images.execute(COPY_IMAGE, (0,))


def test_two_platforms_may_have_images_with_one_id(two_platforms: sqlite.Connection) -> None:
    two_platforms.execute(COPY_IMAGE, (1,))

    assert [key for key, *_ in rows_of(two_platforms, "images")] == [1, 2, 3]


def test_an_image_without_its_platform_is_refused(two_images: sqlite.Connection) -> None:
    with refused_by("FOREIGN KEY"):
        two_images.execute(COPY_IMAGE, (1,))


def test_an_image_without_its_config_is_refused(store: sqlite.Connection) -> None:
    with refused_by("FOREIGN KEY"):
        store.execute(INSERT_IMAGE, (DIGESTS[0], 0))


def test_two_platforms_with_one_name_are_refused(two_platforms: sqlite.Connection) -> None:
    with refused_by("platforms.platform"):
        two_platforms.execute("INSERT INTO platforms (platform) VALUES ('linux/arm64')")


def test_the_platform_of_an_image_cannot_be_removed(two_images: sqlite.Connection) -> None:
    with refused_by("FOREIGN KEY"):
        two_images.execute("DELETE FROM platforms")


def test_a_reference_without_an_image_is_refused(store: sqlite.Connection) -> None:
    with refused_by("FOREIGN KEY"):
        store.execute(INSERT_REFERENCE, ("a", 1, 1, None, 0))


def test_a_second_image_for_one_reference_is_refused(two_images: sqlite.Connection) -> None:
    with refused_by("references.name"):
        two_images.execute(INSERT_REFERENCE, ("a", 2, 1, None, 0))


def test_a_reference_to_the_image_of_another_platform_is_refused(two_platforms: sqlite.Connection) -> None:
    with refused_by("FOREIGN KEY"):
        two_platforms.execute(INSERT_REFERENCE, ("d", 1, 1, None, 1))


def test_a_reference_names_one_image_for_each_platform(two_platforms: sqlite.Connection) -> None:
    two_platforms.execute(COPY_IMAGE, (1,))
    two_platforms.execute(INSERT_REFERENCE, ("c", 3, 1, None, 1))

    named = [
        (platform, key) for platform, name, key, *_ in rows_of(two_platforms, "references") if name == "c"
    ]
    assert sorted(named) == [(0, 2), (1, 3)]


@pytest.mark.parametrize("name", ["", "x" * 32_769, "ö" * 16_385])
def test_a_reference_that_is_empty_or_too_long_is_refused(two_images: sqlite.Connection, name: str) -> None:
    with refused_by("references_have_a_name"):
        two_images.execute(INSERT_REFERENCE, (name, 1, 1, None, 0))


@pytest.mark.parametrize("rank", [-1, 6])
def test_a_sort_rank_that_does_not_exist_is_refused(two_images: sqlite.Connection, rank: int) -> None:
    with refused_by("references_have_a_sort_rank"):
        two_images.execute(INSERT_REFERENCE, ("d", 1, rank, None, 0))


@pytest.mark.parametrize(("name", "key"), [("c", 1), ("a", 2), ("nobody", 1)])
def test_a_pin_of_a_reference_that_the_image_lacks_is_refused(
    two_images: sqlite.Connection, name: str, key: int
) -> None:
    with refused_by("FOREIGN KEY"):
        pin(two_images, name, key)


@pytest.mark.parametrize(("name", "key"), [("c", 1), ("a", 2), ("nobody", 1)])
def test_a_cache_row_that_disagrees_with_the_references_is_refused(
    two_images: sqlite.Connection, name: str, key: int
) -> None:
    with refused_by("FOREIGN KEY"):
        cache(two_images, name, key)


def test_deleting_a_reference_keeps_the_image_while_it_has_another(two_images: sqlite.Connection) -> None:
    two_images.execute("""DELETE FROM "references" WHERE name = 'a'""")

    assert [key for key, *_ in rows_of(two_images, "images")] == [1, 2]


def test_deleting_a_reference_deletes_its_pin_and_its_cache_row(two_images: sqlite.Connection) -> None:
    for name in ("a", "b"):
        pin(two_images, name, 1)
        cache(two_images, name, 1)

    two_images.execute("""DELETE FROM "references" WHERE name = 'a'""")

    assert [row[0] for row in rows_of(two_images, "pinned_refs")] == ["b"]
    assert [row[0] for row in rows_of(two_images, "ref_cache")] == ["b"]


LAST_REFERENCE_GOES = {
    "deleted": """DELETE FROM "references" WHERE name = 'c'""",
    "moved": """UPDATE "references" SET image_key = 1 WHERE name = 'c'""",
}


@pytest.mark.parametrize("statement", LAST_REFERENCE_GOES.values(), ids=LAST_REFERENCE_GOES)
def test_an_image_is_deleted_with_its_config_and_last_reference(
    two_images: sqlite.Connection, statement: str
) -> None:
    two_images.execute(statement)

    assert [key for key, *_ in rows_of(two_images, "images")] == [1]
    assert [key for key, *_ in rows_of(two_images, "documents")] == [1]


def test_deleting_the_last_reference_deletes_its_pin_and_its_cache_row(two_images: sqlite.Connection) -> None:
    pin(two_images, "c", 2)
    cache(two_images, "c", 2)

    two_images.execute(LAST_REFERENCE_GOES["deleted"])

    assert rows_of(two_images, "pinned_refs") == rows_of(two_images, "ref_cache") == []


def test_moving_a_reference_moves_its_pin_and_its_cache_row(two_images: sqlite.Connection) -> None:
    pin(two_images, "c", 2)
    cache(two_images, "c", 2)

    two_images.execute(LAST_REFERENCE_GOES["moved"])

    assert rows_of(two_images, "pinned_refs") == [("c", 1)]
    assert [row[:2] for row in rows_of(two_images, "ref_cache")] == [("c", 1)]


REPLACING = {
    "insert": """REPLACE INTO "references" VALUES (0, 'c', 1, 1, NULL)""",
    "update": """UPDATE OR REPLACE "references" SET name = 'c' WHERE name = 'a'""",
}


@pytest.mark.parametrize("statement", REPLACING.values(), ids=REPLACING)
def test_replacing_the_last_reference_of_an_image_is_refused(
    two_images: sqlite.Connection, statement: str
) -> None:
    with refused_by("references.name"):
        two_images.execute(statement)


def test_a_reference_may_be_renamed(two_images: sqlite.Connection) -> None:
    pin(two_images, "a", 1)

    two_images.execute("""UPDATE "references" SET name = 'd' WHERE name = 'a'""")

    assert rows_of(two_images, "pinned_refs") == [("d", 1)]


def test_deleting_an_image_deletes_its_references(two_images: sqlite.Connection) -> None:
    two_images.execute("DELETE FROM images WHERE image_key = 1")

    assert [name for _, name, *_ in rows_of(two_images, "references")] == ["c"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reference_history SET event = 'moved'",
        "DELETE FROM reference_history",
        "REPLACE INTO reference_history SELECT * FROM reference_history",
    ],
)
def test_the_history_is_append_only(store: sqlite.Connection, statement: str) -> None:
    record(store, "a")

    with refused_by("append-only"):
        store.execute(statement)


def test_an_event_that_does_not_exist_is_refused(store: sqlite.Connection) -> None:
    with refused_by("reference_history_events"):
        record(store, "a", event="lost")


def test_a_pin_in_the_history_other_than_0_or_1_is_refused(store: sqlite.Connection) -> None:
    with refused_by("reference_history_pinned_is_a_truth"):
        record(store, "a", pinned=2)


def test_image_list_shows_the_references_in_order(store: sqlite.Connection) -> None:
    image_id = add_image(store, 1, document=b"{}")
    names = [("z", 1, "b"), ("a", 4, None), ("y", 1, "a"), ("m", 0, None), ("x", 1, "a")]
    store.executemany(INSERT_REFERENCE, [(name, 1, rank, canonical, 0) for name, rank, canonical in names])
    pin(store, "z", 1)

    listed = store.execute("SELECT id, reference_names, size, pinned, chain_id FROM image_list").fetchall()

    assert listed == [(image_id, '["m","x","y","z","a"]', 1001, 1, TARGET)]


def test_image_list_shows_an_image_without_pins_as_not_pinned(two_images: sqlite.Connection) -> None:
    pin(two_images, "a", 1)

    pinned = two_images.execute("SELECT id, pinned FROM image_list ORDER BY id").fetchall()

    assert dict(pinned) == {digest_of(b"1"): 1, digest_of(b"2"): 0}


def test_reference_list_shows_image_target_pin_and_time(two_images: sqlite.Connection) -> None:
    pin(two_images, "a", 1)
    cache(two_images, "a", 1, at=1_750_000_000_123_000)

    listed = two_images.execute(
        "SELECT reference, image_id, target_digest, pinned, verified FROM reference_list ORDER BY reference"
    ).fetchall()

    assert listed == [
        ("a", digest_of(b"1"), TARGET, 1, "2025-06-15T15:06:40.123Z"),
        ("b", digest_of(b"1"), None, 0, None),
        ("c", digest_of(b"2"), None, 0, None),
    ]


def test_history_list_shows_the_newest_last(store: sqlite.Connection) -> None:
    record(store, "a")
    record(store, "a", event="pinned", pinned=1)

    listed = store.execute("SELECT time, reference, event, image_id, pinned FROM history_list").fetchall()

    assert listed == [
        ("1970-01-01T00:00:00.000Z", "a", "new", TARGET, 0),
        ("1970-01-01T00:00:00.000Z", "a", "pinned", TARGET, 1),
    ]


CONFIG = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "created": "2025-06-15T08:00:00Z",
    "config": {
        "User": "1000",
        "WorkingDir": "/srv",
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "true"],
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGQUIT",
        "Env": ["TOKEN=in-the-environment"],
        "Labels": {"password": "in-the-labels"},
    },
    "history": [{"created_by": "ENV TOKEN=in-the-environment"}],
    "rootfs": {"type": "layers", "diff_ids": [TARGET, TARGET]},
}


def test_config_list_shows_the_fields_of_the_config(store: sqlite.Connection) -> None:
    document = json.dumps(CONFIG).encode()
    add_image(store, 1, "a", document=document)

    (listed,) = store.execute("SELECT * FROM config_list").fetchall()

    assert listed == (
        digest_of(document),
        "linux",
        "arm64",
        "v8",
        "2025-06-15T08:00:00Z",
        "1000",
        "/srv",
        '["/bin/sh"]',
        '["-c","true"]',
        2,
        '["80/tcp","443/tcp"]',
        '["/data"]',
        "SIGQUIT",
    )


def test_config_list_shows_an_image_whose_config_is_not_json(store: sqlite.Connection) -> None:
    add_image(store, 1, "a", document=b"\xff{")

    (listed,) = store.execute("SELECT * FROM config_list").fetchall()

    assert listed == (digest_of(b"\xff{"), *[None] * 12)


def test_no_view_shows_environment_or_labels(store: sqlite.Connection) -> None:
    add_image(store, 1, "a", document=json.dumps(CONFIG).encode())
    record(store, "a")
    views = store.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()

    shown = {view: str(store.execute(f"SELECT * FROM {view}").fetchall()) for (view,) in views}

    assert {"image_list", "config_list", "history_list"} < set(shown)
    assert not [view for view, text in shown.items() if "in-the-" in text]
