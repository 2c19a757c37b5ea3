"""Reader's methods."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import (
    AmbiguousError,
    FailedPreconditionError,
    ImageNotFoundError,
    ImageSummary,
    InvalidArgumentError,
    NotAStoreError,
    ObservedImage,
    Reader,
    Store,
    StoreUnavailableError,
)
from imagekeep.database.connection import StoreConnection, connect
from imagekeep.database.driver import sqlite
from imagekeep.internals import apply_all, local_resolve
from imagekeep.transition import ReferenceState
from tests.model import IMAGES, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME, OTHER = "docker.io/library/busybox:1", "docker.io/library/busybox:2"
ONE, TWO = IMAGES[:2]


@pytest.fixture
def filled(store_path: Path) -> Path:
    """A store of two images; the second of the first image's two references pins it."""
    with Store.open(store_path, platform=PLATFORM) as store:
        apply_all(store, {OTHER: ONE, NAME: ONE, "app:1": TWO})
        store.pin(ONE.id, OTHER)
    return store_path


@pytest.fixture
def reader(filled: Path) -> Iterator[Reader]:
    with Reader.open(filled) as opened:
        yield opened


def test_resolve_returns_the_id(reader: Reader) -> None:
    assert reader.resolve(NAME) == ONE.id


@pytest.mark.parametrize("name", ["busybox:1", NAME.upper(), f"{NAME} ", "", "\ud800", ONE.id])
def test_resolve_compares_spelling_exactly(reader: Reader, name: str) -> None:
    with pytest.raises(ImageNotFoundError):
        reader.resolve(name)


def test_get_returns_the_whole_image(reader: Reader) -> None:
    image = reader.get(ONE.id)
    assert (image.references, image.chain_id, image.size) == ((NAME, OTHER), ONE.chain_id, ONE.size)
    assert (image.pinned, image.config_json) == (True, ONE.config_json)


@pytest.mark.parametrize("query", [ONE.id, ONE.id[7:], ONE.id[:19], ONE.id[7:19]])
def test_get_takes_a_truncated_id_with_or_without_its_algorithm(reader: Reader, query: str) -> None:
    assert reader.get(query).id == ONE.id


def kept(path: Path, ids: list[str]) -> Store:
    """Create a store of images with these ids; return its path."""
    store = Store.open(path)
    apply_all(store, {image_id: ObservedImage(image_id, "", 0, b"{}", None) for image_id in ids})
    return store


def test_get_of_an_ambiguous_id_lists_every_candidate(store_path: Path) -> None:
    ids = [f"sha256:ab{'0' * 62}", f"sha512:ab{'0' * 126}", f"sha256:ab{'1' * 62}", f"sha256:abf{'0' * 61}"]
    with kept(store_path, ids) as store, pytest.raises(AmbiguousError) as raised:
        store.get("ab")
    assert (raised.value.candidates, raised.value.total) == (tuple(ids), 4)
    assert str(raised.value) == f"ambiguous image id ab: {', '.join(ids)} (give more characters)"


def test_get_of_a_very_ambiguous_id_lists_ten_candidates_and_counts_the_rest(store_path: Path) -> None:
    ids = [f"sha256:ab{number:062x}" for number in range(13)]
    with (
        kept(store_path, ids) as store,
        pytest.raises(AmbiguousError, match=r"9 and 3 more \(give") as raised,
    ):
        store.get("sha256:ab")
    assert (raised.value.candidates, raised.value.total) == (tuple(ids[:10]), 13)


def test_find_prefers_a_reference_as_spelt_to_its_canonical_form(store_path: Path) -> None:
    with Store.open(store_path, platform=PLATFORM) as store:
        apply_all(store, {"busybox:1": TWO, NAME: ONE})
        assert (store.find("busybox:1").id, local_resolve(store, "busybox:1").id) == (TWO.id, ONE.id)


@pytest.mark.parametrize("name", ["busybox:1", ONE.id, ONE.id[7:19]])
def test_find_accepts_whatever_local_resolve_accepts(reader: Reader, name: str) -> None:
    assert reader.find(name) == local_resolve(reader, name)


@pytest.mark.parametrize("query", ["f" * 64, "sha256:", "sha256", ":", "x", "sha256:" + "0" * 64, "\ud800"])
def test_get_of_an_unknown_image_is_not_found(reader: Reader, query: str) -> None:
    with pytest.raises(ImageNotFoundError):
        reader.get(query)


def test_get_of_an_empty_id_is_invalid(reader: Reader) -> None:
    with pytest.raises(InvalidArgumentError, match="is empty"):
        reader.get("")


@pytest.mark.parametrize("name", [NAME, "busybox:1", ONE.id, ONE.id[7:], ONE.id[7:19], ONE.id[:19]])
def test_local_resolve_takes_any_spelling_and_any_id(reader: Reader, name: str) -> None:
    assert local_resolve(reader, name).id == ONE.id


def test_local_resolve_prefers_a_reference_to_a_truncated_id(store_path: Path) -> None:
    name = ONE.id[7:19]
    with Store.open(store_path) as store:
        apply_all(store, {ONE.id: ONE, f"docker.io/library/{name}:latest": TWO})
        assert local_resolve(store, name).id == TWO.id


@pytest.mark.parametrize("name", ["busybox:3", "no such image", "f" * 64])
def test_local_resolve_of_an_unknown_image_is_not_found(reader: Reader, name: str) -> None:
    with pytest.raises(ImageNotFoundError):
        local_resolve(reader, name)


def test_is_pinned_asks_about_one_reference(reader: Reader) -> None:
    assert reader.is_pinned(ONE.id, OTHER)
    assert not reader.is_pinned(ONE.id, NAME)
    assert not reader.is_pinned(TWO.id, OTHER)


@pytest.mark.parametrize("query", ["", "f" * 64, "x"])
def test_is_pinned_is_false_for_an_unknown_or_ambiguous_id(reader: Reader, query: str) -> None:
    assert not reader.is_pinned(query, OTHER)


def test_list_returns_every_image_ordered_by_id(reader: Reader) -> None:
    listed = reader.list()
    assert [image.id for image in listed] == sorted([ONE.id, TWO.id])
    assert all(reader.get(image.id) == image for image in listed)


def test_iter_yields_what_list_returns(reader: Reader) -> None:
    assert list(reader.iter()) == reader.list()


def test_iter_sees_one_state_whatever_is_written_meanwhile(filled: Path) -> None:
    with Store.open(filled) as store:
        images = store.iter()
        first = next(images)
        apply_all(store, {NAME: None, OTHER: None, "app:1": None})
        assert [first.id, *(image.id for image in images)] == sorted([ONE.id, TWO.id])
        assert store.list() == []


def test_summaries_are_images_without_their_configs(reader: Reader) -> None:
    whole = [ImageSummary(i.id, i.references, i.chain_id, i.size, i.pinned) for i in reader.list()]
    assert reader.summaries() == whole


def test_states_have_image_pin_and_target(reader: Reader) -> None:
    assert reader.states()[OTHER] == ReferenceState(ONE.id, True, ONE.target_digest)
    assert set(reader.states()) == {NAME, OTHER, "app:1"}


def test_counts_images_references_and_pins(reader: Reader) -> None:
    counts = reader.counts()
    assert (counts.images, counts.references, counts.pinned_refs) == (2, 3, 1)
    assert counts.oldest_verified_at
    assert counts.newest_verified_at


def test_counts_of_an_empty_store_have_no_times(store_path: Path) -> None:
    with Reader.open(store_path) as reader:
        assert reader.counts()[:5] == (0, 0, 0, None, None)


def test_history_compares_spelling_exactly(reader: Reader) -> None:
    assert [entry.event for entry in reader.history(OTHER)] == ["new", "pinned"]
    assert reader.history("busybox:2") == []


def test_a_reader_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="no store at"):
        Reader.open(tmp_path / "images.db")
    assert not (tmp_path / "images.db").exists()


def test_a_reader_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but some text" * 100)
    with pytest.raises(NotAStoreError):
        Reader.open(tmp_path / "text")


def test_a_reader_cannot_write(reader: Reader) -> None:
    assert not hasattr(reader, "apply")


def test_a_closed_reader_yields_no_images(reader: Reader) -> None:
    reader.close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        next(reader.iter())


def test_a_closed_reader_raises(reader: Reader) -> None:
    reader.close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        reader.list()


def test_a_context_closes_the_reader(filled: Path) -> None:
    with Reader.open(filled) as reader:
        assert reader.counts().images == 2
    with pytest.raises(FailedPreconditionError, match="closed"):
        reader.resolve(NAME)


def test_a_thread_that_ends_closes_its_connection(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[StoreConnection] = []

    def remember(path: Path, **options: Any) -> StoreConnection:
        opened.append(connect(path, **options))
        return opened[-1]

    monkeypatch.setattr("imagekeep.database.kept.connect", remember)
    with Reader.open(filled) as reader:
        thread = threading.Thread(target=reader.list)
        thread.start()
        thread.join()
        assert len(opened) == 2
        with pytest.raises(sqlite.ProgrammingError, match="closed"):
            opened[1].execute("SELECT 1")


def statements_of(
    path: Path, action: str, monkeypatch: pytest.MonkeyPatch, name: str | None = None
) -> list[str]:
    """Return every statement that runs while a store is opened and one method called."""
    ran: list[str] = []

    def tracing(file: Path, **options: Any) -> StoreConnection:
        connection = connect(file, **options)
        connection.set_trace_callback(ran.append)
        return connection

    with monkeypatch.context() as patched:
        for module in ("database.kept", "database.create"):
            patched.setattr(f"imagekeep.{module}.connect", tracing)
        with Store.open(path, platform=PLATFORM) as store:
            names = {"resolve": (NAME,), "get": (ONE.id[7:19],), "find": (name,)}
            getattr(store, action)(*names.get(action, ()))
    return ran


@pytest.mark.parametrize("verb", ["resolve", "get", "list", "summaries", "states"])
def test_the_number_of_statements_does_not_depend_on_the_number_of_images(
    filled: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = statements_of(filled, verb, monkeypatch)
    with Store.open(filled) as store:
        apply_all(store, {image.id: image for image in IMAGES})
    many = statements_of(filled, verb, monkeypatch)
    assert len(few) == len(many)
    assert len(few) < 15


def test_opening_reads_no_image(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = statements_of(filled, "close", monkeypatch)
    assert opening
    assert not [statement for statement in opening if "images" in statement or "references" in statement]


def test_a_method_is_one_read_transaction(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = statements_of(filled, "get", monkeypatch)
    assert ran[-1] == "COMMIT"
    assert ran.count("BEGIN") == 1


@pytest.mark.parametrize("verb", ["resolve", "get", "find"])
@pytest.mark.parametrize("name", [NAME, ONE.id, "f" * 64])
def test_a_method_leaves_no_snapshot_behind(filled: Path, verb: str, name: str) -> None:
    with Reader.open(filled) as reader, contextlib.closing(connect(filled)) as writer:
        with contextlib.suppress(ImageNotFoundError):
            getattr(reader, verb)(name)
        writer.execute("DELETE FROM pinned_refs")
        answer: Any = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert answer[0] == 0, "a reader still holds a snapshot"


def test_a_name_that_utf8_cannot_encode_has_no_history(reader: Reader) -> None:
    assert reader.history("\ud800") == []


def test_a_read_error_is_translated(filled: Path) -> None:
    with Store.open(filled) as store, Reader.open(filled) as reader:
        store.apply("app:2", TWO)
        reader.list()
        os.truncate(f"{filled}-wal", 100)  # SQLite answers SQLITE_IOERR_SHORT_READ
        with pytest.raises(StoreUnavailableError, match="disk"):
            reader.history("app:2")


def test_a_reader_can_be_used_after_a_failed_query(reader: Reader) -> None:
    with pytest.raises(ZeroDivisionError):
        reader._connections.ask(lambda _: 1 // 0)  # noqa: SLF001
    assert reader.resolve(NAME) == ONE.id


@pytest.mark.parametrize("error", [TypeError, AttributeError])
def test_a_bug_in_a_query_is_not_translated(reader: Reader, error: type[Exception]) -> None:
    def broken(_: sqlite.Cursor) -> None:
        raise error("a bug")

    with pytest.raises(error, match="a bug"):
        reader._connections.ask(broken)  # noqa: SLF001


@pytest.mark.parametrize("name", [NAME, "busybox:1", ONE.id[7:19]])
def test_find_is_one_read_transaction(filled: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ran = statements_of(filled, "find", monkeypatch, name)
    assert [word for word in ran if word in ("BEGIN", "COMMIT")] == ["BEGIN", "COMMIT"]


def test_a_moving_reference_is_always_found(filled: Path) -> None:
    stop = threading.Event()

    def move(store: Store) -> None:
        while not stop.is_set():
            for image in (TWO, ONE):
                apply_all(store, {NAME: image, OTHER: image})

    with Store.open(filled, platform=PLATFORM) as store, ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move, store)
        for _ in range(500):
            assert store.find(NAME).id in (ONE.id, TWO.id)
            assert store.find("busybox:1").id in (ONE.id, TWO.id)
        stop.set()
        moving.result(30)


@pytest.mark.parametrize("opened", [Reader.open, Store.open])
@pytest.mark.parametrize("path", [":memory:", "", "file:///tmp/images.db?mode=memory"])
def test_paths_with_a_meaning_for_sqlite_are_refused(
    opened: Callable[[str], Reader], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match="not the path of a file"):
        opened(path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["file:x.db", "a?mode=memory", "a#b", "%41", "ü", "a b", "-x"])
def test_a_path_that_looks_like_a_uri_is_a_path(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(name, platform=PLATFORM) as store:
        store.apply(NAME, ONE)
    with Reader.open(name) as reader:
        assert reader.resolve(NAME) == ONE.id
    assert (tmp_path / name).stat().st_size
