"""The views of the contract, on the example store and in other programs."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagekeep.database.check import find_problems
from imagekeep.database.connection import connect
from imagekeep.errors import InvalidReferenceError
from imagekeep.reference import parse_any, sort_key
from imagekeep.schema import CONTRACT, views
from tests.database.stores import thawed
from tests.demo_store import (
    API,
    API_ARM,
    APP_1,
    APP_2,
    BASE,
    EXPORTER,
    IMAGES,
    PAUSE,
    RUNTIME,
    SECRETS,
    TOOLS,
    WEB,
    WEB_AGAIN,
    digest,
    index_of,
    make_demo_store,
)
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite

APP = "docker.io/library/app"
TEAM_API = "registry.example:5000/team/api:1.4"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example store."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    make_demo_store(path)
    return path


@pytest.fixture
def store(demo: Path) -> Iterator[sqlite.Connection]:
    """A connection that reads the example store."""
    with contextlib.closing(connect(demo, read_only=True)) as connection:
        yield connection


@pytest.fixture
def changed(demo: Path, tmp_path: Path) -> Iterator[sqlite.Connection]:
    """A connection that can change a copy of the example store."""
    copy = tmp_path / "copy.db"
    shutil.copy(demo, copy)
    copy.chmod(0o600)
    with contextlib.closing(connect(copy)) as connection:
        yield connection


def column(connection: sqlite.Connection, statement: str, *values: object) -> list[Any]:
    """Return the first column of a statement's rows."""
    return [row[0] for row in connection.execute(statement, values)]


def test_the_example_store_breaks_no_invariant(store: sqlite.Connection) -> None:
    store.execute("BEGIN")
    assert list(find_problems(store)) == []


# Other programs


@pytest.mark.parametrize("view", views.tables)
def test_debians_shell_reads_every_view_without_quotes(demo: Path, view: str) -> None:
    columns = ", ".join(views.tables[view].columns.keys())
    shown = run("sqlite3", "-readonly", "-json", demo, f"SELECT {columns} FROM {view}")
    assert list(json.loads(shown)[0]) == list(views.tables[view].columns.keys())


def test_the_standard_librarys_sqlite_reads_every_view(demo: Path, store: sqlite.Connection) -> None:
    with contextlib.closing(sqlite3.connect(f"{demo.as_uri()}?mode=ro", uri=True)) as other:
        for view in views.tables:
            statement = f"SELECT * FROM {view}"
            assert set(other.execute(statement)) == set(store.execute(statement))


def test_no_view_shows_a_secret(store: sqlite.Connection) -> None:
    shown = {view: str(store.execute(f"SELECT * FROM {view}").fetchall()) for view in views.tables}
    assert {view for view, text in shown.items() if any(secret in text for secret in SECRETS)} == set()
    documents = str(store.execute("SELECT document FROM documents").fetchall())
    assert all(secret in documents for secret in SECRETS)


@pytest.mark.parametrize("revision", ["0001", "0004", "0005"])
def test_a_migrated_store_has_the_contract(revision: str, path: Path) -> None:
    from imagekeep.database.migrate import migrate

    migrate(thawed(revision, path))
    with contextlib.closing(connect(path, read_only=True)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (CONTRACT,)
        assert column(connection, "SELECT count(*) FROM image_list") == [4]
        for view in views.tables:
            connection.execute(f"SELECT * FROM {view}").fetchall()


# References


def parts_of(name: str) -> tuple[str | None, ...]:
    """Return registry, repository, tag and digest of a name, by the parser."""
    try:
        parsed = parse_any(name)
    except InvalidReferenceError:
        return None, None, None, None
    if not parsed.name:
        return None, None, None, None
    return parsed.name.partition("/")[0], parsed.name, parsed.tag or None, str(parsed.digest or "") or None


PARTS = "SELECT registry, repository, tag, digest FROM reference_list WHERE reference = ?"

HEX = "ab" * 32

NAMES = [
    "busybox",
    "busybox:1.36",
    f"busybox@sha256:{HEX}",
    f"busybox:1.36@sha256:{HEX}",
    "library/busybox",
    "docker.io/library/busybox:latest",
    "index.docker.io/library/busybox:latest",
    "localhost/app:v1",
    "localhost:5000/app",
    "registry.example:5000/app",
    "registry.example:5000/team/app:1.0_x-y.z",
    f"registry.example:5000/team/app:1@sha512:{'cd' * 64}",
    "[fd00::1]:5000/team/app:v1",
    "a/b/c/d:e",
    f"sha256:{HEX}",
    HEX,
    "not a reference",
    "UPPER/case:1",
    "ä/ö:ü",
    "a:b:c",
    "@",
    "/",
    "x/",
    ":",
]


def rename(connection: sqlite.Connection, name: str) -> None:
    """Give the only reference of one image another name, as the store would write it."""
    rank, spelling = sort_key(name)
    connection.execute(
        """UPDATE "references" SET name = ?, sort_rank = ?, sort_name = ? WHERE image_key = 1""",
        (name, rank, None if spelling == name else spelling),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_split_like_the_parser_splits_it(changed: sqlite.Connection, name: str) -> None:
    rename(changed, name)
    assert changed.execute(PARTS, (name,)).fetchall() == [parts_of(name)]


REFERENCES = st.from_regex(
    r"\A([a-z0-9.]{1,9}(:[0-9]{1,5})?/)?([a-z0-9._-]{1,9}/){0,2}[a-z0-9._-]{1,9}"
    r"(:[A-Za-z0-9_.-]{1,9})?(@sha256:[0-9a-f]{64})?\Z"
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=REFERENCES)
def test_any_reference_is_split_like_the_parser_splits_it(changed: sqlite.Connection, name: str) -> None:
    rename(changed, name)
    assert changed.execute(PARTS, (name,)).fetchall() == [parts_of(name)]


def test_a_reference_has_a_kind(changed: sqlite.Connection) -> None:
    kinds = {}
    for name in [*NAMES[:4], HEX, "not a reference"]:
        rename(changed, name)
        kinds[name] = column(changed, "SELECT kind FROM reference_list WHERE reference = ?", name)[0]
    assert list(kinds.values()) == ["name", "tag", "digest", "tag and digest", "id", "other"]


def test_a_tag_of_digits_is_compared_as_a_text(changed: sqlite.Connection) -> None:
    rename(changed, "busybox:1.30")
    assert column(changed, "SELECT tag FROM reference_list WHERE tag = ?", "1.30") == ["1.30"]
    assert column(changed, "SELECT tag FROM reference_list WHERE tag = ?", 1.3) == []


# Images


def test_an_image_has_its_first_name_its_use_and_its_state(store: sqlite.Connection) -> None:
    rows = store.execute(
        "SELECT name, state, in_use, first_seen, last_used FROM image_list WHERE id = ?", (APP_2.id,)
    )
    assert rows.fetchall() == [
        (f"{APP}:latest", "complete", 1, "2026-11-21T04:30:00.000Z", "2026-11-22T08:00:00.000Z")
    ]


STATES = """
SELECT state FROM image_list WHERE id = ?
UNION ALL SELECT state FROM manifest_list WHERE image_id = ?
UNION ALL SELECT state FROM platform_list WHERE image_id = ? AND reference LIKE '%:v1'
"""


@pytest.mark.parametrize(
    ("content", "present", "state"),
    [
        (digest(APP_1.manifest), 0, "absent"),
        (APP_1.id, 0, "partial"),
        (BASE.digest, 0, "partial"),
        (digest(APP_1.manifest), None, None),
        (APP_1.id, None, None),
        (BASE.digest, None, None),
    ],
)
def test_the_state_follows_from_what_is_present(
    changed: sqlite.Connection, content: str, present: int | None, state: str | None
) -> None:
    assert column(changed, STATES, *[APP_1.id] * 3) == ["complete"] * 3
    changed.execute("UPDATE blobs SET present = ? WHERE digest = ?", (present, content))
    assert column(changed, STATES, *[APP_1.id] * 3) == [state] * 3


def test_one_part_that_is_absent_is_enough_even_if_others_are_unknown(changed: sqlite.Connection) -> None:
    changed.execute("UPDATE blobs SET present = NULL WHERE digest = ?", (RUNTIME.digest,))
    changed.execute("UPDATE blobs SET present = 0 WHERE digest = ?", (BASE.digest,))
    assert column(changed, STATES, *[APP_1.id] * 3) == ["partial"] * 3


def test_use_is_unknown_until_containers_were_listed(changed: sqlite.Connection) -> None:
    changed.execute("UPDATE content_look SET containers_at = NULL")
    assert set(column(changed, "SELECT in_use FROM image_list")) == {None}


# Content


def test_a_target_has_each_of_its_platforms(store: sqlite.Connection) -> None:
    rows = store.execute(
        "SELECT platform, image_id, size, state, chosen, position FROM platform_list WHERE reference = ?",
        (TEAM_API,),
    )
    assert rows.fetchall() == [
        ("linux/amd64", API.id, API.size, "complete", 1, 0),
        ("linux/arm64", API_ARM.id, API_ARM.size, "complete", 0, 1),
    ]


def test_a_nested_index_is_not_a_platform(changed: sqlite.Connection) -> None:
    changed.execute(
        "UPDATE blobs SET media_type = 'application/vnd.oci.image.index.v1+json' WHERE digest = ?",
        (digest(API_ARM.manifest),),
    )
    assert column(changed, "SELECT platform FROM platform_list WHERE reference = ?", TEAM_API) == [
        "linux/amd64"
    ]


def blobs_of(*images: str) -> dict[str, int]:
    """Return the size of each blob that is present of these images, by their documents."""
    sizes = {}
    for _, builds, _ in IMAGES:
        if builds[0].id in images:
            documents = [each for build in builds for each in (build.manifest, build.document)]
            documents += [index_of(builds)] if len(builds) > 1 else []
            sizes.update({digest(each): len(each) for each in documents})
            sizes.update({layer.digest: layer.size for b in builds for layer in b.layers if layer.present})
    return sizes


ALL = [builds[0].id for _, builds, _ in IMAGES]


@pytest.mark.parametrize("image", ALL)
def test_sizes_count_each_blob_once_over_all_platforms(store: sqlite.Connection, image: str) -> None:
    own, others = blobs_of(image), blobs_of(*(each for each in ALL if each != image))
    sizes = store.execute(
        "SELECT content_size, unique_size, shared_size FROM size_list WHERE image_id = ?", (image,)
    )
    unique = sum(size for blob, size in own.items() if blob not in others)
    assert sizes.fetchall() == [(sum(own.values()), unique, sum(own.values()) - unique)]


def test_content_is_every_blob_of_an_image_once(store: sqlite.Connection) -> None:
    for image in ALL:
        found = store.execute(
            "SELECT digest, size FROM content_list WHERE image_id = ? AND present", (image,)
        )
        assert sorted(found) == sorted(blobs_of(image).items())


def test_a_layer_has_its_place_and_its_snapshot(store: sqlite.Connection) -> None:
    rows = store.execute(
        "SELECT position, digest, size, diff_id, unpacked, unpacked_bytes FROM layer_list"
        " WHERE image_id = ? ORDER BY position",
        (APP_1.id,),
    )
    assert rows.fetchall() == [
        (position, layer.digest, layer.size, layer.diff_id, 1, layer.size * 3)
        for position, layer in enumerate(APP_1.layers)
    ]


def test_a_layer_that_a_manifest_lists_twice_has_two_rows_and_counts_once(changed: sqlite.Connection) -> None:
    before = column(changed, "SELECT content_size FROM size_list WHERE image_id = ?", PAUSE.id)
    changed.execute(
        "INSERT INTO manifest_layers SELECT manifest_key, 1, layer_key, chain_key FROM manifest_layers"
        " WHERE manifest_key = (SELECT blob_key FROM blobs WHERE digest = ?)",
        (digest(PAUSE.manifest),),
    )
    assert column(changed, "SELECT count(*) FROM layer_list WHERE image_id = ?", PAUSE.id) == [2]
    assert column(changed, "SELECT content_size FROM size_list WHERE image_id = ?", PAUSE.id) == before


# Use and pins


def test_a_kubelet_collects_what_is_neither_used_nor_pinned_in_its_order(store: sqlite.Connection) -> None:
    rows = store.execute("SELECT position, image_id FROM gc_list ORDER BY position").fetchall()
    assert rows == list(enumerate([API.id, WEB_AGAIN.id, EXPORTER.id, TOOLS.id, WEB.id], 1))


def test_an_image_has_the_containers_that_use_it(store: sqlite.Connection) -> None:
    rows = store.execute("SELECT containers, running, uses FROM usage_list WHERE image_id = ?", (PAUSE.id,))
    assert rows.fetchall() == [(1, 1, 0)]


PINNED_SINCE = "SELECT since FROM pin_list WHERE reference = 'registry.k8s.io/pause:3.10'"


@pytest.mark.parametrize(
    ("changes", "since"),
    [
        ([], "2026-11-01T06:00:05.000Z"),
        ([("moved", 1)], "2026-11-01T06:00:05.000Z"),
        ([("unpinned", 0), ("pinned", 1)], "2026-12-02T00:00:00.000Z"),
        ([("vanished", 1), ("new", 1), ("moved", 1)], "2026-12-02T00:00:00.000Z"),
        ([("unpinned", 0), ("recorded", 1)], None),
    ],
)
def test_a_pin_has_its_beginning(
    changed: sqlite.Connection, changes: list[tuple[str, int]], since: str | None
) -> None:
    for day, (event, pinned) in enumerate(changes, 1):
        changed.execute(
            "INSERT INTO reference_history (reference, image_id, pinned, event, at)"
            " VALUES ('registry.k8s.io/pause:3.10', ?, ?, ?, strftime('%s', '2026-12-0' || ?) * 1000000)",
            (PAUSE.id, pinned, event, day),
        )
    assert column(changed, PINNED_SINCE) == [since]


# Plans

USED_ALONE = {
    "an image by id": "SELECT * FROM image_list WHERE id = 'x'",
    "a reference": "SELECT * FROM reference_list WHERE reference = 'x'",
    "platforms of a reference": "SELECT * FROM platform_list WHERE reference = 'x'",
    "history of a reference": "SELECT * FROM history_list WHERE reference = 'x'",
    "a pin": "SELECT * FROM pin_list WHERE reference = 'x'",
    "a manifest": "SELECT * FROM manifest_list WHERE digest = 'x'",
    "use of an image": "SELECT * FROM usage_list WHERE image_id = 'x'",
}


@pytest.mark.parametrize("statement", USED_ALONE.values(), ids=USED_ALONE)
def test_one_row_is_found_by_an_index(store: sqlite.Connection, statement: str) -> None:
    plan = [row[3] for row in store.execute(f"EXPLAIN QUERY PLAN {statement}")]
    small = ("SCAN content_look", "SCAN platforms", "SCAN identity", "SCAN (subquery", "SCAN CONSTANT")
    assert [step for step in plan if step.startswith("SCAN") and not step.startswith(small)] == []
