"""The tables and views of a store in SQLAlchemy, for your own queries and for alembic.

::

    from sqlalchemy import select
    from imagekeep import schema

    with schema.engine("images.db").connect() as connection:
        for image in connection.execute(select(schema.image_list).order_by(schema.image_list.c.size)):
            print(image.id, image.size, image.reference_names)

The views, such as `image_list`, are a contract, whose version is CONTRACT and SQLite's user_version: see
docs/schema.md. They leave out a config's environment and labels, which often hold secrets. The tables are
imagekeep's own::

    platforms ─< images ─< references ─┬─ pinned_refs    (at most one a reference and platform)
                   │                   └─ ref_cache      (at most one a reference and platform)
                   │                          │
                   │              target ─< target_manifests ─ manifests ─< manifest_layers ─ chains
                   └────────────── config ──────────────────────── └ config ┘        └ layer
                                     └─ blobs ─ documents
    reference_history, history_cuts           (append-only; they outlive images and references)
    containers, image_usage                   (who uses the images)
    incomplete_refs                           (references whose images could not be read)
    watcher, image_filesystem                 (at most one row)
    identity, content_look                    (exactly one row)

SQLite's constraints enforce that for each platform a reference names one image; a pin and a cache row belong to a
reference, agree with it on the image, move with it and are deleted with it; an image is deleted with its last
reference, and a blob with the last row that needs it. `imagekeep db check` checks the rest: every image has a
reference, and every document has the digest of its blob.

The migrations create the file, with the triggers and the comments below; tests compare both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.database.connection import connect
from imagekeep.database.create import schema_of_file
from imagekeep.database.engine import make_engine
from imagekeep.database.revision import exists, require_current
from imagekeep.errors import StoreUnavailableError, printable
from imagekeep.paths import full_path
from imagekeep.schema.content import (
    blobs,
    chains,
    containers,
    content_look,
    documents,
    image_usage,
    manifest_layers,
    manifests,
    target_manifests,
)
from imagekeep.schema.tables import (
    history_cuts,
    identity,
    image_filesystem,
    images,
    incomplete_refs,
    metadata,
    pinned_refs,
    platforms,
    ref_cache,
    reference_history,
    references,
    watcher,
)
from imagekeep.schema.views import (
    CONTRACT,
    config_list,
    container_list,
    content_list,
    gc_list,
    history_list,
    image_list,
    incomplete_list,
    layer_list,
    manifest_list,
    pin_list,
    platform_list,
    reference_list,
    size_list,
    store_list,
    usage_list,
    views,
)

if TYPE_CHECKING:
    import os

    from sqlalchemy import Engine

__all__ = [
    "CONTRACT",
    "blobs",
    "chains",
    "config_list",
    "container_list",
    "containers",
    "content_list",
    "content_look",
    "documents",
    "engine",
    "gc_list",
    "history_cuts",
    "history_list",
    "identity",
    "image_filesystem",
    "image_list",
    "image_usage",
    "images",
    "incomplete_list",
    "incomplete_refs",
    "layer_list",
    "manifest_layers",
    "manifest_list",
    "manifests",
    "metadata",
    "pin_list",
    "pinned_refs",
    "platform_list",
    "platforms",
    "ref_cache",
    "reference_history",
    "reference_list",
    "references",
    "size_list",
    "store_list",
    "target_manifests",
    "usage_list",
    "views",
    "watcher",
]


def engine(path: str | os.PathLike[str]) -> Engine:
    """Return an engine that reads the store at `path`; each transaction is one snapshot, and none can write.

    Do not fork while one of its connections is open. Raises StoreUnavailableError if there is no store,
    SchemaVersionError for one of another revision, NotAStoreError for another file. SQLAlchemy's own errors pass.
    """
    store = full_path(path)
    if not exists(store):
        raise StoreUnavailableError(f"no store at {printable(store)} (`imagekeep sync` creates one)")
    require_current(schema_of_file(store), store)
    return make_engine(lambda: connect(store, read_only=True), read_only=True)
