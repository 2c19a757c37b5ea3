"""Reads and writes what the source was seen to have, in the caller's transaction: blobs, and unpacked layers.

A caller writes only what has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.database import look_statements
from imagekeep.database.row_types import INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, texts, typed, typed_row
from imagekeep.database.usage import all_containers, write_containers
from imagekeep.times import from_microseconds, to_microseconds
from imagekeep.usage import compare

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from imagekeep.database.driver import sqlite
    from imagekeep.usage import ContainerRecord

_PRESENCE = (TEXT, INTEGER_OR_NULL)
_CHAIN = (TEXT, INTEGER_OR_NULL, INTEGER_OR_NULL)
_LOOK = (INTEGER_OR_NULL, INTEGER_OR_NULL, INTEGER_OR_NULL, TEXT_OR_NULL)

MAX_SINGLE_LOOKUPS = 100
"""References to look beneath one by one; for more, everything is looked at in one scan."""

SIZE_LIMIT = 2**40
"""Largest believable size of an unpacked layer in bytes."""


class LookTimes(NamedTuple):
    """When the source last said what it has; None for what it never said."""

    blobs_at: datetime | None = None
    snapshots_at: datetime | None = None
    containers_at: datetime | None = None
    snapshotter: str | None = None


class Unpacked(NamedTuple):
    """Whether a layer is unpacked, and how many bytes it takes; None if it is not known."""

    known: bool | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """How what a source has differs from what the store knows.

    `blobs` and `layers` have what came, went or became known. `containers` has all of them, and is None if the
    source did not say; `chain_ids` has what those were made from whose image is not known. `reread` has the
    references beneath which documents came. `differs` is True if there is anything to write besides the times.
    """

    times: LookTimes
    blobs: Mapping[str, bool]
    layers: Mapping[str, Unpacked]
    containers: Collection[ContainerRecord] | None
    chain_ids: Mapping[str, str | None]
    reread: frozenset[str]
    differs: bool


def write_look(cursor: sqlite.Cursor, look: Look, now: int) -> None:
    """Write what a look has found, and when it was taken; `now` is in microseconds since 1970, UTC."""
    write_presence(cursor, look.blobs)
    write_unpacked(cursor, look.layers)
    if look.containers is not None:
        write_containers(cursor, compare(all_containers(cursor), look.containers), look.chain_ids, now)
    write_look_times(cursor, look.times)


def write_look_times(cursor: sqlite.Cursor, times: LookTimes) -> None:
    """Write when the source last said what it has."""
    values = {
        name: to_microseconds(at) if isinstance(at, datetime) else at for name, at in times._asdict().items()
    }
    cursor.execute(look_statements.RECORD_LOOK, {"look_key": 1, **values})


def look_times(cursor: sqlite.Cursor) -> LookTimes:
    """Return when the source last said what it has."""
    row = cursor.execute(look_statements.CONTENT_LOOK).fetchone()
    if row is None:
        return LookTimes()
    *times, snapshotter = typed_row(row, _LOOK)
    blobs_at, snapshots_at, containers_at = (None if at is None else from_microseconds(at) for at in times)
    return LookTimes(blobs_at, snapshots_at, containers_at, snapshotter)


def all_digests(cursor: sqlite.Cursor) -> set[str]:
    """Return the digest of every blob that a reference needs."""
    return {digest for digest, _ in typed(cursor.execute(look_statements.BLOB_PRESENCE), _PRESENCE)}


def came_or_went(cursor: sqlite.Cursor, present: Container[str]) -> dict[str, bool]:
    """Return each blob whose stored presence is wrong or unknown, and whether the source has it."""
    rows = typed(cursor.execute(look_statements.BLOB_PRESENCE), _PRESENCE)
    return {digest: digest in present for digest, had in rows if had != (digest in present)}


def is_presence_known(cursor: sqlite.Cursor) -> bool:
    """Return whether the store knows of every blob whether the source has it."""
    return not cursor.execute(look_statements.ANY_UNKNOWN_PRESENCE).fetchone()[0]


def write_presence(cursor: sqlite.Cursor, presence: Mapping[str, bool]) -> None:
    """Record whether the source has each of these blobs."""
    rows = [{"digest": digest, "present": present} for digest, present in presence.items()]
    cursor.executemany(look_statements.SET_PRESENCE, rows)


def unread_documents(cursor: sqlite.Cursor, digests: Collection[str]) -> dict[str, set[str]]:
    """Return those of these blobs that are documents which could not be read, each with its references."""
    found = {
        digest: _each(cursor, look_statements.REFERENCES_LACKING_DOCUMENT, [digest]) for digest in digests
    }
    return {digest: references for digest, references in found.items() if references}


def missing_chains(cursor: sqlite.Cursor, references: Collection[str]) -> set[str]:
    """Return the chain ids beneath these references that were not known to be unpacked."""
    if len(references) > MAX_SINGLE_LOOKUPS:
        rows = typed(cursor.execute(look_statements.CHAINS), _CHAIN)
        return {chain_id for chain_id, known, _ in rows if not known}
    return _each(cursor, look_statements.CHAINS_OF_REFERENCE, references)


def unmeasured(cursor: sqlite.Cursor, unpacked: Container[str], *, all_sizes: bool) -> list[str]:
    """Return those of the unpacked layers whose size is not known; with `all_sizes`, all of them."""
    rows = typed(cursor.execute(look_statements.CHAINS), _CHAIN)
    return [each for each, _, size in rows if (all_sizes or size is None) and each in unpacked]


def unpacked_or_not(
    cursor: sqlite.Cursor, unpacked: Container[str], sizes: Mapping[str, int]
) -> dict[str, Unpacked]:
    """Return each layer whose stored state is wrong or unknown: whether it is unpacked, and its size.

    A layer that stays unpacked keeps its size unless `sizes` has another one.
    """
    rows = typed(cursor.execute(look_statements.CHAINS), _CHAIN)
    found = (
        (
            each,
            known,
            size,
            Unpacked(True, sizes.get(each, size)) if each in unpacked else Unpacked(False, None),
        )
        for each, known, size in rows
        if known != (each in unpacked) or each in sizes
    )
    return {each: layer for each, known, size, layer in found if layer != (known, size)}


def all_unknown(cursor: sqlite.Cursor) -> dict[str, Unpacked]:
    """Return each layer with a known state as unknown, for a source without snapshots."""
    rows = typed(cursor.execute(look_statements.CHAINS), _CHAIN)
    return {each: Unpacked(None, None) for each, known, _ in rows if known is not None}


def write_unpacked(cursor: sqlite.Cursor, unpacked: Mapping[str, Unpacked]) -> None:
    """Record whether each of these layers is unpacked, and its size; one that no layer can have is null."""
    rows = [
        {"chain_id": chain_id, "unpacked": known, "unpacked_bytes": _believable(size)}
        for chain_id, (known, size) in unpacked.items()
    ]
    cursor.executemany(look_statements.SET_UNPACKED, rows)


def _believable(size: int | None) -> int | None:
    return size if size is not None and 0 <= size <= SIZE_LIMIT else None


def _each(cursor: sqlite.Cursor, statement: str, references: Collection[str]) -> set[str]:
    found: set[str] = set()
    for reference in references:
        found.update(texts([value for (value,) in cursor.execute(statement, (reference,))]))
    return found
