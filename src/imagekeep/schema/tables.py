"""The tables of a store: images and their names, the history, and the status of source and watcher."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from imagekeep.database.check import CHECKS

metadata = MetaData()
"""The tables."""


def check(name: str) -> CheckConstraint:
    """Return the CHECK constraint with this name."""
    return CheckConstraint(CHECKS[name].condition, name=name)


platforms = Table(
    "platforms",
    metadata,
    Column("platform_key", Integer, primary_key=True, comment="0 is the store's first platform"),
    Column("platform", Text, comment="normalized; null until the first update says which"),
    UniqueConstraint("platform", name="platforms_are_unique"),
    sqlite_strict=True,
    comment="one row is a platform for which the store keeps images",
)


def _platform_key() -> Column[int]:
    comment = "0 is the store's first platform"
    return Column("platform_key", Integer, nullable=False, server_default=text("0"), comment=comment)


images = Table(
    "images",
    metadata,
    Column("image_key", Integer, primary_key=True, comment="this file's own number for the image"),
    Column("id", Text, nullable=False, comment="digest of the config document: sha256: and 64 hex"),
    Column("chain_id", Text, nullable=False, comment="identifies the ordered layers; empty without layers"),
    Column("size", Integer, nullable=False, comment="compressed bytes: index, manifest, config, layers"),
    _platform_key(),
    Column("config_key", Integer, nullable=False),
    UniqueConstraint("platform_key", "id", name="images_id_is_unique"),
    UniqueConstraint("image_key", "platform_key", name="images_belong_to_one_platform"),
    check("images_id_is_a_digest"),
    ForeignKeyConstraint(["platform_key"], ["platforms.platform_key"], name="images_have_a_platform"),
    ForeignKeyConstraint(["config_key"], ["blobs.blob_key"], name="images_have_a_config"),
    Index("images_by_config", "config_key"),
    sqlite_strict=True,
    comment="one row is an image on this node for one platform",
)

references = Table(
    "references",
    metadata,
    _platform_key(),
    Column("name", Text, nullable=False, comment="as the source spells it"),
    Column("image_key", Integer, nullable=False),
    Column(
        "sort_rank",
        Integer,
        nullable=False,
        comment="0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other",
    ),
    Column("sort_name", Text, comment="canonical spelling, where not the name; order by rank, this"),
    PrimaryKeyConstraint("platform_key", "name"),
    UniqueConstraint("image_key", "name", name="references_of_an_image"),
    check("references_have_a_name"),
    check("references_have_a_sort_rank"),
    ForeignKeyConstraint(
        ["image_key", "platform_key"],
        ["images.image_key", "images.platform_key"],
        name="references_name_an_image",
        ondelete="CASCADE",
    ),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is one name of one image, for one platform",
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
    Column("reference", Text, nullable=False),
    Column("image_key", Integer, nullable=False),
    PrimaryKeyConstraint("reference", "image_key"),
    _belongs_to_a_reference("pinned_refs_are_references"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a reference that keeps its image from garbage collection",
)

ref_cache = Table(
    "ref_cache",
    metadata,
    Column("reference", Text, nullable=False),
    Column("image_key", Integer, nullable=False),
    Column("target_digest", Text, nullable=False, comment="of the manifest or index it points at"),
    Column("manifest_key", Integer, comment="the manifest chosen beneath the target; null if not known yet"),
    Column("verified_at", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    PrimaryKeyConstraint("reference", "image_key"),
    _belongs_to_a_reference("ref_cache_agrees_with_references"),
    ForeignKeyConstraint(["target_digest"], ["blobs.digest"], name="ref_cache_target_is_a_blob"),
    ForeignKeyConstraint(["manifest_key"], ["manifests.manifest_key"], name="ref_cache_manifest_was_read"),
    Index("ref_cache_by_target", "target_digest"),
    Index("ref_cache_by_manifest", "manifest_key"),
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
    Column("size", Integer),
    Column("platform", Text),
    check("reference_history_events"),
    check("reference_history_pinned_is_a_truth"),
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
    check("watcher_is_one_row"),
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
    check("identity_is_one_row"),
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
    check("image_filesystem_is_one_row"),
    sqlite_strict=True,
    comment="at most one row: the last ImageFsInfo reply of the source",
)

history_cuts = Table(
    "history_cuts",
    metadata,
    Column("cut_key", Integer, primary_key=True),
    Column(
        "older_than",
        Integer,
        nullable=False,
        comment="rows before this time; microseconds since 1970, UTC",
    ),
    Column("removed", Integer, comment="how many rows; null while they are being removed"),
    Column("at", Integer, nullable=False),
    sqlite_strict=True,
    comment="one row is a time when old history was removed",
)
