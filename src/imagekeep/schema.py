"""The tables and views of a store in SQLAlchemy, for your own queries and for alembic.

::

    from sqlalchemy import select
    from imagekeep import schema

    with schema.engine("images.db").connect() as connection:
        for image in connection.execute(select(schema.image_list).order_by(schema.image_list.c.size)):
            print(image.id, image.size, image.reference_names)

The views, such as `image_list`, are stable across releases, and leave out a config's environment and labels, which
often hold secrets. The tables are imagekeep's own::

    images ─┬─< references ─┬─ pinned_refs    (at most one a reference)
            │               └─ ref_cache      (at most one a reference)
            └── configs                       (exactly one an image)
    reference_history                         (append-only; outlives images and references)
    incomplete_refs                           (references whose images could not be read)
    watcher                                   (at most one row)
    identity                                  (exactly one row)
    image_filesystem                          (at most one row)

SQLite's constraints enforce that a reference names one image; a pin and a cache row belong to a reference, agree
with it on the image, move with it and are deleted with it; an image is deleted with its last reference.
`imagekeep db check` checks the rest: every image has a reference, and its id is the digest of its config.

The migrations create the file, with the triggers and the comments below; tests compare both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BLOB,
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from imagekeep.database.check import CHECKS
from imagekeep.database.connection import connect
from imagekeep.database.create import schema_of_file
from imagekeep.database.engine import make_engine
from imagekeep.database.revision import exists, require_current
from imagekeep.errors import StoreUnavailableError, printable
from imagekeep.paths import full_path

if TYPE_CHECKING:
    import os

    from sqlalchemy import Engine

__all__ = [
    "config_list",
    "configs",
    "engine",
    "history_list",
    "identity",
    "image_filesystem",
    "image_list",
    "images",
    "incomplete_refs",
    "metadata",
    "pinned_refs",
    "ref_cache",
    "reference_history",
    "reference_list",
    "references",
    "views",
    "watcher",
]

metadata = MetaData()
"""The tables."""

views = MetaData()
"""The views, apart from the tables: alembic compares only these."""


def engine(path: str | os.PathLike[str]) -> Engine:
    """Return an engine that reads the store at `path`; each transaction is one snapshot, and none can write.

    Do not fork while one of its connections is open. Raises StoreUnavailableError if there is no store,
    SchemaVersionError for one of another revision, NotAStoreError for another file. SQLAlchemy's own errors pass.
    """
    store = full_path(path)
    if not exists(store):
        raise StoreUnavailableError(f"no store at {printable(store)}; `imagekeep sync` makes one")
    require_current(schema_of_file(store), store)
    return make_engine(lambda: connect(store, read_only=True), read_only=True)


def _check(name: str) -> CheckConstraint:
    return CheckConstraint(CHECKS[name].condition, name=name)


images = Table(
    "images",
    metadata,
    Column("image_key", Integer, primary_key=True, comment="this file's own number for the image"),
    Column("id", Text, nullable=False, comment="digest of the config document: sha256: and 64 hex"),
    Column("chain_id", Text, nullable=False, comment="identifies the ordered layers; empty without layers"),
    Column("size", Integer, nullable=False, comment="compressed bytes: index, manifest, config, layers"),
    UniqueConstraint("id", name="images_id_is_unique"),
    _check("images_id_is_a_digest"),
    sqlite_strict=True,
    comment="one row is an image on this host",
)

configs = Table(
    "configs",
    metadata,
    Column("image_key", Integer, primary_key=True),
    Column("document", BLOB, nullable=False, comment="the config, byte for byte; holds the environment"),
    ForeignKeyConstraint(
        ["image_key"], ["images.image_key"], name="configs_belong_to_an_image", ondelete="CASCADE"
    ),
    sqlite_strict=True,
    comment="apart from images, so that lists need not read past it",
)

references = Table(
    "references",
    metadata,
    Column("name", Text, primary_key=True, nullable=False, comment="as the source spells it"),
    Column("image_key", Integer, nullable=False),
    Column(
        "sort_rank",
        Integer,
        nullable=False,
        comment="0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other",
    ),
    Column("sort_name", Text, comment="canonical spelling, where not the name; order by rank, this"),
    UniqueConstraint("image_key", "name", name="references_of_an_image"),
    _check("references_have_a_name"),
    _check("references_have_a_sort_rank"),
    ForeignKeyConstraint(
        ["image_key"], ["images.image_key"], name="references_name_an_image", ondelete="CASCADE"
    ),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is one name of one image",
)


def _belongs_to_a_reference(name: str) -> ForeignKeyConstraint:
    """Return the constraint that ties a row to a reference and to that reference's image."""
    return ForeignKeyConstraint(
        ["image_key", "reference"],
        ["references.image_key", "references.name"],
        name=name,
        onupdate="CASCADE",
        ondelete="CASCADE",
    )


pinned_refs = Table(
    "pinned_refs",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("image_key", Integer, nullable=False),
    _belongs_to_a_reference("pinned_refs_are_references"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a reference that keeps its image from garbage collection",
)

ref_cache = Table(
    "ref_cache",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("image_key", Integer, nullable=False),
    Column("target_digest", Text, nullable=False, comment="of the manifest or index it points at"),
    Column("platform", Text, nullable=False, comment="for which the image was chosen beneath the target"),
    Column("verified_at", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    _belongs_to_a_reference("ref_cache_agrees_with_references"),
    _check("ref_cache_target_is_a_digest"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is what the source last said of a reference, and when",
)

reference_history = Table(
    "reference_history",
    metadata,
    Column("sequence", Integer, primary_key=True, comment="grows with time"),
    Column("reference", Text, nullable=False),
    Column(
        "image_id",
        Text,
        nullable=False,
        comment="named from then on; when vanished, until then",
    ),
    Column("target_digest", Text, comment="null where no source was asked"),
    Column("pinned", Integer, nullable=False, comment="whether the reference pins the image from then on"),
    Column("event", Text, nullable=False),
    Column("at", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    _check("reference_history_events"),
    _check("reference_history_pinned_is_a_truth"),
    Index("reference_history_by_reference", "reference"),
    sqlite_strict=True,
    comment="append-only: a row is a change to a reference, written with it",
)

incomplete_refs = Table(
    "incomplete_refs",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("error", Text, nullable=False, comment="why its image could not be read when last tried"),
    Column("since", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    Column("tried_at", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a reference at the source whose image cannot be read, or not yet",
)

watcher = Table(
    "watcher",
    metadata,
    Column("watcher_key", Integer, primary_key=True),
    Column("process_id", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("started_at", Integer, nullable=False, comment="microseconds since 1970, UTC, as all times here"),
    Column("connected_at", Integer, comment="null while the source's events are not heard"),
    Column("last_event_at", Integer),
    Column("last_reconcile_at", Integer),
    Column("events", Integer, nullable=False),
    Column("reconciles", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("last_error", Text),
    Column("stopped_at", Integer, comment="null while it runs, or when it was killed"),
    _check("watcher_is_one_row"),
    sqlite_strict=True,
    comment="how far the last watcher of the source has come",
)

identity = Table(
    "identity",
    metadata,
    Column("identity_key", Integer, primary_key=True),
    Column("store_id", Text, nullable=False, comment="32 random hex digits; a restored store gets new ones"),
    Column(
        "source",
        Text,
        comment="specifier of the source of the last sync of all references; null until then",
    ),
    Column("namespace", Text, comment="containerd's; null for other sources"),
    _check("identity_is_one_row"),
    sqlite_strict=True,
    comment="one row: which store this is, and which source it follows",
)

image_filesystem = Table(
    "image_filesystem",
    metadata,
    Column("filesystem_key", Integer, primary_key=True),
    Column("mountpoint", Text, nullable=False),
    Column("used_bytes", Integer, comment="null if the reply does not say"),
    Column("inodes_used", Integer),
    Column("at", Integer, nullable=False, comment="microseconds since 1970, UTC: the time in the reply"),
    _check("image_filesystem_is_one_row"),
    sqlite_strict=True,
    comment="at most one row: the last ImageFsInfo reply of the source",
)

FIRST_ROWS = ("INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))",)
"""What a new store begins with."""

image_list = Table(
    "image_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("reference_names", JSON, comment="a list, in docker's order"),
    Column("size", Integer, comment="compressed bytes"),
    Column("pinned", Boolean, comment="whether a reference pins it"),
    Column("chain_id", Text, comment="identifies the ordered layers; empty without layers"),
    comment="one row is an image",
)

reference_list = Table(
    "reference_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column("image_id", Text),
    Column("target_digest", Text, comment="of the manifest or index; null if no source was asked"),
    Column("pinned", Boolean),
    Column("verified", Text, comment="when the source last confirmed it: ISO 8601, UTC"),
    comment="one row is a reference",
)

config_list = Table(
    "config_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("os", Text),
    Column("architecture", Text),
    Column("variant", Text),
    Column("created", Text, comment="as the config says it"),
    Column("user", Text),
    Column("working_directory", Text),
    Column("entrypoint", JSON),
    Column("command", JSON),
    Column("layers", Integer, comment="how many"),
    comment="one row is what an image's config says, without its environment and labels",
)

history_list = Table(
    "history_list",
    views,
    Column("sequence", Integer, comment="grows with time"),
    Column("time", Text, comment="ISO 8601, UTC"),
    Column("reference", Text),
    Column("event", Text),
    Column("image_id", Text, comment="named from then on; when vanished, until then"),
    Column("target_digest", Text, comment="null if no source was asked"),
    Column("pinned", Boolean),
    comment="one row is a change to a reference",
)
