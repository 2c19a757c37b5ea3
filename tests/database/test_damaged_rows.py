"""Rows with values of the wrong type, as after a bit flip in a row's header."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep import Reader, Store
from imagekeep.database.check import find_problems
from imagekeep.database.driver import MistypedRowError
from imagekeep.database.revision import HEAD
from imagekeep.database.row_types import TEXT, typed_row
from imagekeep.errors import CorruptStoreError
from imagekeep.internals import local_resolve
from imagekeep.oci.content import DOCUMENT_LIMIT
from tests.database.rows import add_image, opened
from tests.database.stores import thawed
from tests.torture.sqlite_pages import places_of_columns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def damaged(store_path: Path) -> Path:
    """A store in which one reference's rank is a text, and another's name a number."""
    with opened(store_path) as connection:
        add_image(connection, 1, "a", "b", "c")
        connection.execute("PRAGMA writable_schema = ON")
        (strict,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'references'").fetchone()
        set_schema = "UPDATE sqlite_schema SET sql = ? WHERE name = 'references'"
        connection.execute(set_schema, (strict.replace("TEXT", "ANY").replace("INTEGER", "ANY"),))
    with opened(store_path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE \"references\" SET sort_rank = 'x' WHERE name = 'a'")
        connection.execute("UPDATE \"references\" SET name = 5 WHERE name = 'b'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(set_schema, (strict,))
    return store_path


def test_a_reader_reports_a_damaged_store(damaged: Path) -> None:
    with Reader.open(damaged) as reader, pytest.raises(CorruptStoreError, match="types of its columns"):
        reader.list()


@pytest.mark.parametrize(
    "verb", [Reader.list, lambda r: r.get("sha256:" + "1" * 64), lambda r: list(r.iter())]
)
def test_a_config_that_no_source_can_have_is_not_read(
    store_path: Path, verb: Callable[[Reader], object]
) -> None:
    with opened(store_path) as connection:
        add_image(connection, 1, "a")
        connection.execute("UPDATE images SET id = 'sha256:' || replace(hex(zeroblob(32)), '0', '1')")
        connection.execute("UPDATE documents SET document = zeroblob(?)", (DOCUMENT_LIMIT,))
    with Reader.open(store_path) as reader:
        verb(reader)
        with opened(store_path) as connection:
            connection.execute("UPDATE documents SET document = zeroblob(?)", (DOCUMENT_LIMIT + 1,))
        with pytest.raises(CorruptStoreError):
            verb(reader)


def test_an_argument_of_the_wrong_type_is_still_the_callers_error(store_path: Path) -> None:
    with Reader.open(store_path) as reader, pytest.raises(TypeError):
        reader.get(5)  # type: ignore[arg-type]


def test_the_check_names_the_rows_and_continues(damaged: Path) -> None:
    with opened(damaged) as connection:
        found = [str(problem) for problem in find_problems(connection)]

    assert any("non-TEXT value in references.name" in problem for problem in found)
    assert any("the rows after it were not checked" in problem for problem in found)


TAG = "docker.io/library/busybox:1.35"
READS: dict[str, Callable[[Reader], object]] = {
    "resolve": lambda reader: reader.resolve(TAG),
    "get": lambda reader: reader.get("26e76b794c65"),
    "local_resolve": lambda reader: local_resolve(reader, TAG),
    "list": lambda reader: reader.list(),
    "iter": lambda reader: [*reader.iter()],
    "summaries": lambda reader: reader.summaries(),
    "states": lambda reader: reader.states(),
    "history": lambda reader: reader.history(TAG),
    "incomplete": lambda reader: reader.incomplete(),
    "watcher": lambda reader: reader.watcher(),
    "identity": lambda reader: reader.identity(),
}


def with_flipped_types(path: Path, column: str) -> Path:
    """Flip the bit of each value's type that turns text into a blob and back; return the path."""
    thawed(HEAD, path)
    places = places_of_columns(path)
    content = bytearray(path.read_bytes())
    for offset in places[f"{column}, type"]:
        if content[offset] < 0x80:  # the last byte of a type has the lowest bit; null is 0
            content[offset] ^= content[offset] > 0
    path.write_bytes(content)
    return path


REFUSING = {
    "images.id": ("resolve", "local_resolve", "list", "summaries", "states"),
    "images.id in sqlite_autoindex_images_1": ("iter",),
    "images.chain_id": ("get", "local_resolve", "list", "iter", "summaries"),
    "documents.document": ("get", "local_resolve", "list", "iter"),
    "references.name": ("list", "summaries", "states"),
    "ref_cache.target_digest": ("states",),
    "blobs.digest": ("states",),
    "reference_history.image_id": ("history",),
    "reference_history.target_digest": ("history",),
    "reference_history.event": ("history",),
    "incomplete_refs.reference": ("incomplete",),
    "incomplete_refs.error": ("incomplete",),
    "watcher.source": ("watcher",),
    "identity.store_id": ("identity",),
    "identity.source": ("identity",),
    "identity.namespace": ("identity",),
    "watcher.last_error": ("watcher",),
}


@pytest.mark.parametrize(("column", "verb"), [(c, verb) for c, verbs in REFUSING.items() for verb in verbs])
def test_a_value_of_the_wrong_type_is_never_returned(column: str, verb: str, tmp_path: Path) -> None:
    path = with_flipped_types(tmp_path / "images.db", column)
    with Reader.open(path) as reader, pytest.raises(CorruptStoreError, match="types of its columns"):
        READS[verb](reader)


def test_a_value_of_the_wrong_type_is_never_used_in_a_decision(tmp_path: Path) -> None:
    path = with_flipped_types(tmp_path / "images.db", "images.id")
    with Store.open(path) as store, pytest.raises(CorruptStoreError, match="types of its columns"):
        store.pin("26e76b794c65", TAG)


def test_a_row_in_an_index_but_not_in_its_table_is_damage() -> None:
    with pytest.raises(MistypedRowError):
        typed_row(None, (TEXT,))
