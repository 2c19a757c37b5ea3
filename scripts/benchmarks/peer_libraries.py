"""Libraries that keep the same facts, each used as its documentation shows.

They are imported only when measured, because they are optional.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import stores
from benchmarks.corpus import made_images
from imagekeep.internals import local_resolve
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from benchmarks.corpus import MadeImage


class Peer(NamedTuple):
    """An open peer: lists all image ids, and returns text that contains the id of one image."""

    list: Callable[[], Collection[str]]
    by_name: Callable[[str], str]
    by_truncated: Callable[[str], str]


def version(package: str) -> str:
    """Return a package's version; raises ImportError if it is not installed."""
    return importlib.metadata.version(package)


def facts(image: MadeImage) -> dict[str, Any]:
    """Return the facts of an image as JSON values."""
    return {
        "id": image.image_id,
        "references": list(image.references),
        "chain_id": image.chain_id,
        "size": image.size,
        "pinned": image.pinned,
        "config": image.config_json.decode(),
    }


@contextlib.contextmanager
def imagekeep(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield imagekeep's reader."""
    with Reader.open(stores.store_of(kept, count)) as reader:
        yield Peer(
            lambda: {image.id for image in reader.list()},
            lambda name: local_resolve(reader, name).id,
            lambda truncated: reader.get(truncated).id,
        )


@contextlib.contextmanager
def tinydb(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield a TinyDB with one document per image, with the caching middleware."""
    module: Any = importlib.import_module("tinydb")
    middlewares: Any = importlib.import_module("tinydb.middlewares")
    storages: Any = importlib.import_module("tinydb.storages")
    where = module.where
    storage = middlewares.CachingMiddleware(storages.JSONStorage)
    with module.TinyDB(own / "images.json", storage=storage) as database:
        database.insert_multiple([facts(image) for image in made_images(count)])
        yield Peer(
            lambda: {image["id"] for image in database.all()},
            lambda name: database.get(where("references").any([name]))["id"],
            lambda truncated: database.get(where("id").matches(f"sha256:{truncated}"))["id"],
        )


@contextlib.contextmanager
def diskcache(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield a Cache of images and references; a truncated id is searched among all keys."""
    module: Any = importlib.import_module("diskcache")
    with module.Cache(own) as cache:
        with cache.transact():
            for image in made_images(count):
                cache[image.image_id] = facts(image)
                for name in image.references:
                    cache[name] = image.image_id

        def beginning(prefix: str) -> Iterator[Any]:
            return (cache[key] for key in cache.iterkeys() if key.startswith(prefix))

        yield Peer(
            lambda: {image["id"] for image in beginning("sha256:")},
            lambda name: cache[cache[name]]["id"],
            lambda truncated: next(beginning(f"sha256:{truncated}"))["id"],
        )


@contextlib.contextmanager
def sqlite_utils(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield a table of images and one of references, each with its primary key."""
    module: Any = importlib.import_module("sqlite_utils")
    database = module.Database(own / "images.db")
    rows = [facts(image) for image in made_images(count)]
    named = [{"name": name, "image": row["id"]} for row in rows for name in row.pop("references")]
    database["images"].insert_all(rows, pk="id")
    database["names"].insert_all(named, pk="name", foreign_keys=[("image", "images", "id")])
    images, names = database["images"], database["names"]

    def list_all() -> dict[str, Any]:
        of_image: dict[str, list[str]] = {}
        for row in names.rows:
            of_image.setdefault(row["image"], []).append(row["name"])
        return {row["id"]: (row, of_image[row["id"]]) for row in images.rows}

    def by_truncated(truncated: str) -> str:
        low = f"sha256:{truncated}"
        [found] = images.rows_where("id >= ? and id < ?", [low, f"{low}g"], limit=2)
        return str(found["id"])

    try:
        yield Peer(list_all, lambda name: str(images.get(names.get(name)["image"])["id"]), by_truncated)
    finally:
        database.close()


@contextlib.contextmanager
def lmdb(kept: Path, own: Path, count: int) -> Iterator[Peer]:
    """Yield a database of JSON images by id, and one of ids by reference; a truncated id is a range of keys."""
    module: Any = importlib.import_module("lmdb")
    with module.open(str(own), map_size=1 << 30, max_dbs=2) as environment:
        images, names = (environment.open_db(name) for name in (b"images", b"names"))
        with environment.begin(write=True) as transaction:
            for image in made_images(count):
                transaction.put(image.image_id.encode(), json.dumps(facts(image)).encode(), db=images)
                for name in image.references:
                    transaction.put(name.encode(), image.image_id.encode(), db=names)

        def list_all() -> set[str]:
            with environment.begin(db=images) as transaction:
                return {json.loads(document)["id"] for _, document in transaction.cursor()}

        def by_name(name: str) -> str:
            with environment.begin() as transaction:
                image_id = transaction.get(name.encode(), db=names)
                return str(json.loads(transaction.get(image_id, db=images))["id"])

        def by_truncated(truncated: str) -> str:
            with environment.begin(db=images) as transaction, transaction.cursor() as cursor:
                cursor.set_range(f"sha256:{truncated}".encode())
                return str(json.loads(cursor.value())["id"])

        yield Peer(list_all, by_name, by_truncated)
