"""Asks a store what the data asks of the Go store, and puts its answers and its tables into the data's words.

An operation is a case of quirks.json: `op`, `ref` or `id`, `image` or `gone`. A state is one too: images by id,
pinned_refs by image id, and ref_cache.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from imagekeep import ObservedImage, Store
from imagekeep.database.connection import connect
from imagekeep.digest import digest_of
from imagekeep.errors import (
    AmbiguousError,
    FailedPreconditionError,
    ImagekeepError,
    InvalidArgumentError,
    InvalidDigestError,
    NotFoundError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from imagekeep.image import Image

Operation = dict[str, Any]
StoreState = dict[str, Any]
Answer = tuple[str, Any]
"""A result class, and the result if the operation has one."""

NOTHING: StoreState = {"images": {}, "pinned_refs": {}, "ref_cache": {}}

IMAGES = "SELECT image_key, id, chain_id, size FROM images"
NAMES = (
    'SELECT name FROM "references" WHERE image_key = ? ORDER BY sort_rank, coalesce(sort_name, name), name'
)
PINS = "SELECT reference FROM pinned_refs WHERE image_key = ? ORDER BY reference"
CACHE = "SELECT reference, id FROM ref_cache JOIN images USING (image_key)"
NAMED = 'SELECT name, id FROM "references" JOIN images USING (image_key)'


def perform(store: Store, operation: Operation) -> Answer:
    """Perform an operation; return its class and result."""
    try:
        return "ok", _do(store, operation)
    except ImagekeepError as error:
        return error_class(error), None


def _do(store: Store, operation: Operation) -> Any:
    match operation:
        case {"op": "update", "ref": reference}:
            store.apply(reference, observed(operation.get("image")))
        case {"op": "resolve", "ref": reference}:
            return store.resolve(reference)
        case {"op": "get", "id": image_id}:
            return described(store.get(image_id))
        case {"op": "list"}:
            return [image.id for image in store.list()]
        case {"op": "is_pinned", "id": image_id, "ref": reference}:
            return store.is_pinned(image_id, reference)
        case {"op": "pin", "id": image_id, "ref": reference}:
            store.pin(image_id, reference)
        case {"op": "unpin", "id": image_id, "ref": reference}:
            store.unpin(image_id, reference)
        case _:
            raise ValueError(f"no such operation: {operation}")
    return None


def observed(image: dict[str, Any] | None) -> ObservedImage | None:
    """Return an image of the data as if read from a source, with an invented target and config."""
    if image is None:
        return None
    return ObservedImage(
        image["id"],
        image["chain_id"],
        image["size"],
        b"config of " + image["id"].encode(),
        digest_of(image["id"].encode()),
        image["pinned"],
    )


def described(image: Image) -> dict[str, Any]:
    """Return an image in the data's words."""
    return {
        "id": image.id,
        "chain_id": image.chain_id,
        "size": image.size,
        "pinned": image.pinned,
        "references": list(image.references),
    }


def error_class(error: ImagekeepError) -> str:
    """Return the result class of an error, or its category if Go has no such error."""
    match error:
        case NotFoundError():
            return "not_found"
        case AmbiguousError():
            return "ambiguous"
        case InvalidDigestError(reason=reason):
            return reason.value
        case SourceUnavailableError():
            return "other"
        case InvalidArgumentError() | FailedPreconditionError():
            return error.category.value
    raise error


@contextlib.contextmanager
def looking_into(path: Path) -> Iterator[sqlite.Connection]:
    """Yield a connection that reads the file beside the tested store."""
    with contextlib.closing(connect(path, read_only=True)) as connection:
        yield connection


def state_of(connection: sqlite.Connection) -> StoreState:
    """Read the whole observable state from the tables."""
    images, pinned_refs = {}, {}
    for key, image_id, chain_id, size in connection.execute(IMAGES).fetchall():
        pins = [name for (name,) in connection.execute(PINS, (key,))]
        images[image_id] = {
            "id": image_id,
            "chain_id": chain_id,
            "size": size,
            "pinned": bool(pins),
            "references": [name for (name,) in connection.execute(NAMES, (key,))],
        }
        if pins:
            pinned_refs[image_id] = pins
    cache = dict(connection.execute(CACHE).fetchall())
    assert cache == dict(connection.execute(NAMED).fetchall()), "references and ref_cache disagree"
    return {"images": images, "pinned_refs": pinned_refs, "ref_cache": cache}


def recorded_state(operation: Operation, before: StoreState) -> StoreState:
    """Return the recorded state after an operation, or the one before it if none is recorded."""
    state = operation.get("state")
    return before if state is None else {part: state[part] for part in NOTHING}
