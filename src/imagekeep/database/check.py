"""Checks every invariant of a store without its source, and names each object and row that breaks one.

SQLite's constraints enforce most of them. This finds rows that were written with foreign keys or checks switched
off, and flipped bits: an image's id is the digest of its config, its chain id follows from the config's layers,
and a reference's order follows from its name. A size, a target's digest and a time cannot be cross-checked; only
their form is checked.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import check_statements, statements, status_statements
from imagekeep.database.content_problems import find_content_problems
from imagekeep.database.driver import MistypedRowError, sqlite
from imagekeep.database.revision import HEAD, compare, expected_objects, lift_bound, read_objects
from imagekeep.database.row_types import BLOB, INTEGER, TEXT, typed
from imagekeep.digest import digest_of, is_digest
from imagekeep.errors import InvalidDocumentError, printable
from imagekeep.oci.config import parse_root_filesystem
from imagekeep.oci.image import chain_id, chain_upon
from imagekeep.reference import sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_SPARE_VIEWS = tuple(name for name in expected_objects(HEAD) if name.startswith("view "))
"""The views, which no statement here reads."""


class Check(NamedTuple):
    """A condition that every row of a table meets; `key` is the column that names a row.

    The schema has it as a CHECK constraint, which SQLite ignores on a read-only connection, in
    `PRAGMA integrity_check` too (SQLite, build.c: sqlite3AddCheckConstraint).
    """

    table: str
    key: str
    condition: str


def _is_digest(column: str) -> str:
    """Return the condition that a column holds a full digest of an algorithm that go-digest knows.

    SQLite's length of a text ends at a NUL, so it is compared with the number of bytes.
    """
    return (
        f"substr({column}, 1, 7) || length({column})\n"
        "            IN ('sha256:71', 'sha384:103', 'sha512:135')\n"
        f"            AND substr({column}, 8) NOT GLOB '*[^0-9a-f]*'\n"
        f"            AND length({column}) = length(CAST({column} AS BLOB))"
    )


CHECKS = {
    "images_id_is_a_digest": Check("images", "id", _is_digest("id")),
    "references_have_a_name": Check("references", "name", "length(CAST(name AS BLOB)) BETWEEN 1 AND 32768"),
    "references_have_a_sort_rank": Check("references", "name", "sort_rank BETWEEN 0 AND 5"),
    "blobs_have_a_digest": Check("blobs", "digest", _is_digest("digest")),
    "blobs_have_a_possible_size": Check("blobs", "digest", "size BETWEEN 0 AND 1099511627776"),
    "blobs_present_is_a_truth": Check("blobs", "digest", "present IN (0, 1)"),
    "blobs_layer_uses_are_counted": Check("blobs", "digest", "layer_uses >= 0"),
    "chains_layer_uses_are_counted": Check("chains", "chain_id", "layer_uses >= 0"),
    "chains_unpacked_is_a_truth": Check("chains", "chain_id", "unpacked IN (0, 1)"),
    "chains_have_a_possible_size": Check("chains", "chain_id", "unpacked_bytes BETWEEN 0 AND 1099511627776"),
    "target_manifests_is_attestation_is_a_truth": Check(
        "target_manifests", "position", "is_attestation IN (0, 1)"
    ),
    "containers_running_is_a_truth": Check("containers", "container_id", "running IN (0, 1)"),
    "image_usage_uses_are_counted": Check("image_usage", "image_id", "uses >= 0"),
    "content_look_is_one_row": Check("content_look", "look_key", "look_key = 1"),
    "reference_history_events": Check(
        "reference_history",
        "sequence",
        "event IN ('recorded', 'new', 'moved', 'retargeted', 'pinned', 'unpinned', 'vanished')",
    ),
    "reference_history_pinned_is_a_truth": Check("reference_history", "sequence", "pinned IN (0, 1)"),
    "watcher_is_one_row": Check("watcher", "watcher_key", "watcher_key = 1"),
    "identity_is_one_row": Check("identity", "identity_key", "identity_key = 1"),
    "image_filesystem_is_one_row": Check("image_filesystem", "filesystem_key", "filesystem_key = 1"),
}
"""The condition of each constraint, by name."""

FORBIDDEN_ROWS = "\nUNION ALL ".join(
    f"SELECT '{check.table}', \"{check.key}\", '{name}' FROM \"{check.table}\" WHERE NOT ({check.condition})"  # noqa: S608
    for name, check in CHECKS.items()
)
"""Selects the table, the key and the constraint of every row that breaks a condition."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken invariant: the table, the row, and what is wrong."""

    table: str
    row: str
    message: str

    @property
    def hides_rows(self) -> bool:
        """Whether a table has changed, so that statements on it cannot be trusted."""
        return self.table == "sqlite_schema" and not self.row.startswith(
            ("trigger ", "index ", *_SPARE_VIEWS)
        )

    def __str__(self) -> str:
        if self.table == "sqlite_schema":
            return f"{printable(self.row)}: {self.message}"
        return f"{self.table} {printable(self.row)}: {self.message}"


def find_problems(connection: sqlite.Connection) -> Iterator[Problem]:
    """Yield every broken invariant of a store; the caller holds a transaction, so that it is one state.

    Rows are not checked if a table differs from the revision's: a view in its place may never end. Raises the
    driver's own error if the file cannot be read.
    """
    connection.text_factory = _lenient
    changed = list(_changed_objects(connection))
    yield from changed
    if any(problem.hides_rows for problem in changed):
        return
    lift_bound(connection)
    yield from _damaged_pages(connection)
    # The driver's own decoder takes a third of the time of a function of Python's for each text.
    connection.text_factory = str
    if not _decodable_texts(connection):
        connection.text_factory = _lenient
        yield from _undecodable_texts(connection)
    for check in (
        _broken_keys,
        _forbidden_rows,
        _images_without_reference,
        _wrong_configs,
        _wrong_content,
        _wrong_order,
        _wrong_history,
        _wrong_identity,
    ):
        yield from _as_far_as_typed(check, connection)


def find_others(connection: sqlite.Connection) -> list[str]:
    """Return the harmless objects of a store that imagekeep did not create, as `type name`."""
    return [str(one) for one in compare(HEAD, read_objects(connection.cursor())).others]


def _as_far_as_typed(
    check: Callable[[sqlite.Connection], Iterator[Problem]], connection: sqlite.Connection
) -> Iterator[Problem]:
    """Yield the problems that a check finds before the first row with a value of the wrong type."""
    try:
        yield from check(connection)
    except MistypedRowError:
        yield Problem(
            "file", "", "a row does not have the types of its columns; the rows after it were not checked"
        )


def _damaged_pages(connection: sqlite.Connection) -> Iterator[Problem]:
    """Ask SQLite about pages, indexes, types and checks."""
    for (message,) in connection.execute(statements.INTEGRITY_CHECK):
        if message != "ok":
            yield Problem("file", "", message)


_TEXTS = """
SELECT 'images', id, chain_id FROM images
UNION ALL SELECT 'references', name, sort_name FROM "references"
UNION ALL SELECT 'pinned_refs', reference, NULL FROM pinned_refs
UNION ALL SELECT 'ref_cache', reference, target_digest FROM ref_cache
UNION ALL SELECT 'platforms', platform_key || '', platform FROM platforms
UNION ALL SELECT 'blobs', digest, media_type FROM blobs
UNION ALL SELECT 'chains', chain_id, diff_id FROM chains
UNION ALL SELECT 'target_manifests', target_key || '', platform FROM target_manifests
UNION ALL SELECT 'containers', container_id, reference || ' ' || coalesce(image_id, '') FROM containers
UNION ALL SELECT 'image_usage', image_id, NULL FROM image_usage
UNION ALL SELECT 'content_look', look_key || '', snapshotter FROM content_look
UNION ALL SELECT 'reference_history', sequence || '',
    reference || ' ' || image_id || ' ' || coalesce(target_digest, '') || ' ' || event
        || ' ' || coalesce(platform, '') FROM reference_history
UNION ALL SELECT 'incomplete_refs', reference, error FROM incomplete_refs
UNION ALL SELECT 'watcher', source, last_error FROM watcher
UNION ALL SELECT 'identity', store_id, source || ' ' || coalesce(namespace, '') FROM identity
UNION ALL SELECT 'image_filesystem', filesystem_key || '', mountpoint FROM image_filesystem
"""
"""Each row's table, what names it there, and its other texts."""


def _lenient(text: bytes) -> str:
    """Decode text that may not be UTF-8, as after a flipped bit."""
    return text.decode(errors="surrogateescape")


def _decodable_texts(connection: sqlite.Connection) -> bool:
    """Return whether the driver can decode every text."""
    try:
        deque(connection.execute(_TEXTS), maxlen=0)
    except sqlite.OperationalError:
        return False
    return True


def _undecodable_texts(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find text that is not UTF-8."""
    for table, row, text in connection.execute(_TEXTS):
        try:
            f"{row}{text}".encode()
        except UnicodeEncodeError:
            yield Problem(table, row, "it holds text that is not UTF-8")


def _changed_objects(connection: sqlite.Connection) -> Iterator[Problem]:
    """Compare every table, index, trigger and view with the revision's."""
    for difference in compare(HEAD, read_objects(connection.cursor())).differences:
        yield Problem("sqlite_schema", difference.object, f"is {difference.how}")


def _broken_keys(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find rows without the row they belong to, such as a pin without its reference.

    `PRAGMA foreign_key_check` finds the same, but names no row of a table that is WITHOUT ROWID.
    """
    for statement, table, message in (
        (check_statements.DOCUMENTS_WITHOUT_BLOB, "documents", "it has no row in blobs"),
        (check_statements.REFERENCES_WITHOUT_IMAGE, "references", "no image"),
        (check_statements.PINS_WITHOUT_REFERENCE, "pinned_refs", "no reference agrees with it"),
        (check_statements.CACHE_WITHOUT_REFERENCE, "ref_cache", "no reference agrees with it"),
    ):
        for (row,) in connection.execute(statement):
            yield Problem(table, row, message)


def _forbidden_rows(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find rows that break a CHECK, which SQLite reports only on a connection that may write."""
    for table, row, constraint in connection.execute(FORBIDDEN_ROWS):
        yield Problem(table, row, f"the constraint {constraint} forbids it")


def _images_without_reference(connection: sqlite.Connection) -> Iterator[Problem]:
    for (image_id,) in connection.execute(check_statements.IMAGES_WITHOUT_REFERENCE):
        yield Problem("images", image_id, "it has no reference")


def _wrong_configs(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find ids that are not the digest of the config, and chain ids that do not follow from it."""
    rows = connection.execute(check_statements.IMAGES_WITH_ANY_CONFIG)
    for image_id, chain, document in typed(rows, (TEXT, TEXT, BLOB | {type(None)})):
        if document is None:
            yield Problem("images", image_id, "its config is missing")
        elif not is_digest(image_id) or digest_of(document, image_id.partition(":")[0]) != image_id:
            yield Problem("images", image_id, f"its config has the digest {digest_of(document)}")
        elif _plain_chain_of(document) != chain and (expected := _chain_of(document, image_id)) != chain:
            yield Problem(
                "images", image_id, f"its chain id is {printable(chain)}; its layers make {expected}"
            )


_LAYERS = re.compile(rb'"diff_ids"\s*+:\s*+\[((?:[\s,]*+"sha256:[0-9a-f]{64}")++)\s*+\]')


def _plain_chain_of(document: bytes) -> str | None:
    """Return the chain id of a config's layers if they are written the usual way, else None.

    Decoding the whole config took three fifths of the time. It was decoded before it was stored, and its digest is
    right, so this is enough to confirm a chain id; `_chain_of` decides if it does not.
    """
    layers = _LAYERS.search(document)
    return reduce(chain_upon, layers[1].decode().split('"')[1::2]) if layers else None


def _chain_of(document: bytes, image_id: str) -> str | None:
    """Return the chain id of a config's layers, or None if it is not a config."""
    try:
        return chain_id(parse_root_filesystem(document, image_id).diff_ids)
    except InvalidDocumentError:
        return None


def _wrong_content(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find rows about the content of targets that do not follow from the documents."""
    for problem in find_content_problems(connection):
        yield Problem(*problem)


def _wrong_order(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find references whose stored sort key does not follow from their name."""
    rows = connection.execute(statements.SORT_KEYS)
    for rank, canonical, name in typed(rows, (INTEGER, TEXT, TEXT)):
        if sort_key(name) != (rank, canonical):
            yield Problem("references", name, "its sort_rank or sort_name does not follow from its name")


def _wrong_history(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find references that differ from their last entry in the history."""
    for (name,) in connection.execute(check_statements.REFERENCES_UNLIKE_HISTORY):
        yield Problem("reference_history", name, "its last row does not say what the reference says")


def _wrong_identity(connection: sqlite.Connection) -> Iterator[Problem]:
    """Find a store without a store id."""
    ids = [store_id for store_id, *_ in connection.execute(status_statements.IDENTITY)]
    if len(ids) != 1 or not re.fullmatch("[0-9a-f]{32}", str(ids[0])):
        yield Problem("identity", "", "no store id of 32 hex digits")
