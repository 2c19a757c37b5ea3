"""Reads and writes containers and the use of images, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database import look_statements
from imagekeep.database.queries import find_by_name, find_id, key_of
from imagekeep.database.row_types import INTEGER, INTEGER_OR_NULL, TEXT, TEXT_OR_NULL, texts, typed, typed_row
from imagekeep.times import from_microseconds, to_microseconds
from imagekeep.usage import Container, ImageUsage, image_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from imagekeep.database.driver import sqlite
    from imagekeep.usage import ContainerChanges, ContainerRecord

USE_INTERVAL = 60_000_000
"""Microseconds from a use of an image to the next that is written: uses are for finding images without any."""

UNKNOWN_CHAIN = ""
"""Matches no image: for a container if the source could not say what it was made from."""

_CONTAINER = (TEXT, TEXT, TEXT_OR_NULL, INTEGER_OR_NULL, INTEGER)
_USAGE = (INTEGER, INTEGER_OR_NULL, INTEGER)


def all_containers(cursor: sqlite.Cursor) -> list[Container]:
    """Return every container, in the order of ids."""
    return list(_containers(cursor.execute(look_statements.CONTAINERS)))


def find_usage(cursor: sqlite.Cursor, image_id: str, platform: str | None, now: int) -> ImageUsage:
    """Return the use of the image with a full or truncated id; raises as `find_id` does.

    A container that exists uses its image at `now`, in microseconds since 1970, UTC.
    """
    found = find_id(cursor, image_id, key_of(cursor, platform))
    row = cursor.execute(look_statements.USAGE, (found,)).fetchone()
    first_seen, last_used, uses = typed_row(row, _USAGE)
    containers = tuple(_containers(cursor.execute(look_statements.CONTAINERS_OF_IMAGE, (found,))))
    last = max(now, last_used or 0) if containers else last_used
    return ImageUsage(
        found,
        from_microseconds(first_seen),
        None if last is None else from_microseconds(last),
        uses,
        containers,
    )


def write_containers(
    cursor: sqlite.Cursor, changes: ContainerChanges, chains: Mapping[str, str | None], now: int
) -> None:
    """Write how the containers changed, and the use of images that follows from it; `now` is in microseconds.

    `chains` has the chain id of the layers that each new or unresolved container was made from, None if no snapshot
    says so. The image of one without an entry stays unknown.
    """
    found = dict(_images_of(cursor, (*changes.new, *changes.unresolved), chains))
    known = {container.id: container for container in changes.changed}
    rows = [
        *(_row(record, found[record.id]) for record in changes.new),
        *(_row(record, found[record.id]) for record in changes.unresolved if found[record.id]),
        *(_row(container, container.image_id or found.get(container.id)) for container in known.values()),
    ]
    # Of two containers with one id, the old one is removed first.
    cursor.executemany(look_statements.REMOVE_CONTAINER, [{"container_id": each.id} for each in changes.gone])
    cursor.executemany(look_statements.RECORD_CONTAINER, rows)
    used = [{"image_id": image_id, "last_used": now} for image_id in found.values() if image_id]
    cursor.executemany(look_statements.RECORD_USE, used)
    left = {each.image_id for each in (*changes.changed, *changes.gone) if each.image_id}
    cursor.executemany(
        look_statements.RECORD_LAST_USE, [{"image_id": each, "last_used": now} for each in sorted(left)]
    )


def is_worth_writing(used: int, last_used: int | None) -> bool:
    """Return whether a use is far enough from the last one, both in microseconds."""
    return last_used is None or used - last_used >= USE_INTERVAL


def find_last_use(cursor: sqlite.Cursor, name: str, platform: str | None) -> tuple[str, int | None]:
    """Return the id of the image with a name as people write it, and when it was last used, if a use was seen.

    The time is in microseconds since 1970, UTC. Raises as `find_by_name` does.
    """
    found = find_by_name(cursor, name, platform).id
    return found, _last_use(cursor, found)


def write_use(cursor: sqlite.Cursor, image_id: str, used: int) -> None:
    """Count a use of the image with this full id, if it is in the store and this is worth writing.

    `used` is in microseconds since 1970, UTC.
    """
    if is_worth_writing(used, _last_use(cursor, image_id)):  # another may have written meanwhile
        cursor.execute(look_statements.RECORD_USE, {"image_id": image_id, "last_used": used})


def _last_use(cursor: sqlite.Cursor, image_id: str) -> int | None:
    row = cursor.execute(look_statements.USAGE, (image_id,)).fetchone()
    return typed_row(row, _USAGE)[1] if row else None


def _images_of(
    cursor: sqlite.Cursor, records: Iterable[ContainerRecord], chains: Mapping[str, str | None]
) -> Iterator[tuple[str, str | None]]:
    """Yield the id of each container and of the image that it was made from, None if that is not certain."""
    waiting = list(records)
    by_chain: dict[str, list[str]] = {}
    if any(chains.get(record.id) for record in waiting):
        # One scan for all: no index on the chain id would be worth its cost to every write.
        for chain_id, image_id in typed(cursor.execute(look_statements.IMAGES_BY_CHAIN), (TEXT, TEXT)):
            if image_id not in by_chain.setdefault(chain_id, []):
                by_chain[chain_id].append(image_id)
    for record in waiting:
        row = cursor.execute(look_statements.IMAGE_OF_NAME, (record.reference,)).fetchone()
        yield (
            record.id,
            image_of(texts(row)[0] if row else None, chains.get(record.id, UNKNOWN_CHAIN), by_chain),
        )


def _containers(rows: Iterable[tuple[str, str, str | None, int | None, int]]) -> Iterator[Container]:
    for container_id, reference, image_id, created_at, running in typed(rows, _CONTAINER):
        created = None if created_at is None else from_microseconds(created_at)
        yield Container(container_id, reference, image_id, created, bool(running))


def _row(container: Container | ContainerRecord, image_id: str | None) -> dict[str, str | int | None]:
    created = container.created_at
    return {
        "container_id": container.id,
        "reference": container.reference,
        "image_id": image_id,
        "created_at": None if created is None else to_microseconds(created),
        "running": container.running,
    }
