"""The tables of what images are made of, whether the source has it, and who uses them.

The rows of a digest never change, except that null (not known yet) becomes known. `present` and `unpacked` are
observations.
"""

from __future__ import annotations

from sqlalchemy import (
    BLOB,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from imagekeep.schema.tables import check, metadata


def _layer_uses() -> Column[int]:
    comment = "rows of manifest_layers that name it"
    return Column("layer_uses", Integer, nullable=False, server_default=text("0"), comment=comment)


blobs = Table(
    "blobs",
    metadata,
    Column("blob_key", Integer, primary_key=True, comment="this file's own number for the blob"),
    Column("digest", Text, nullable=False),
    Column("media_type", Text, comment="as the first descriptor says; null if not known yet"),
    Column(
        "size",
        Integer,
        comment="compressed bytes, as the first descriptor says; null if not known yet, or impossible",
    ),
    Column("present", Integer, comment="whether the source had it when last looked; null if not known yet"),
    _layer_uses(),
    UniqueConstraint("digest", name="blobs_are_unique"),
    check("blobs_have_a_digest"),
    check("blobs_have_a_possible_size"),
    check("blobs_present_is_a_truth"),
    check("blobs_layer_uses_are_counted"),
    sqlite_strict=True,
    comment="one row is a blob that a reference needs: an index, a manifest, a config or a layer",
)

documents = Table(
    "documents",
    metadata,
    Column("blob_key", Integer, primary_key=True),
    Column(
        "document",
        BLOB,
        nullable=False,
        comment="an index, a manifest or a config, byte for byte; a config holds the environment",
    ),
    ForeignKeyConstraint(
        ["blob_key"], ["blobs.blob_key"], name="documents_belong_to_a_blob", ondelete="CASCADE"
    ),
    sqlite_strict=True,
    comment="apart from blobs, so that lists need not read past them",
)

chains = Table(
    "chains",
    metadata,
    Column("chain_key", Integer, primary_key=True),
    Column("chain_id", Text, nullable=False, comment="identifies the layer and all beneath it"),
    Column("diff_id", Text, nullable=False, comment="digest of the layer's uncompressed archive"),
    Column(
        "unpacked",
        Integer,
        comment="whether the source has its snapshot; null if not known yet, or without snapshots",
    ),
    Column("unpacked_bytes", Integer, comment="of this layer alone, on disk"),
    _layer_uses(),
    UniqueConstraint("chain_id", name="chains_are_unique"),
    check("chains_unpacked_is_a_truth"),
    check("chains_have_a_possible_size"),
    check("chains_layer_uses_are_counted"),
    sqlite_strict=True,
    comment="one row is a layer upon those beneath it",
)

manifests = Table(
    "manifests",
    metadata,
    Column("manifest_key", Integer, primary_key=True, comment="its blob"),
    Column("config_key", Integer, nullable=False),
    Column(
        "compressed_size",
        Integer,
        comment="bytes of manifest, config and every occurrence of a layer; null if impossible",
    ),
    ForeignKeyConstraint(["manifest_key"], ["blobs.blob_key"], name="manifests_are_blobs"),
    ForeignKeyConstraint(["config_key"], ["blobs.blob_key"], name="manifests_have_a_config"),
    Index("manifests_by_config", "config_key"),
    sqlite_strict=True,
    comment="one row is an image manifest that was read",
)

manifest_layers = Table(
    "manifest_layers",
    metadata,
    Column("manifest_key", Integer, nullable=False),
    Column("position", Integer, nullable=False, comment="0 is the lowest"),
    Column("layer_key", Integer, nullable=False, comment="its blob"),
    Column("chain_key", Integer, comment="of chains; null if the config does not say"),
    PrimaryKeyConstraint("manifest_key", "position"),
    ForeignKeyConstraint(
        ["manifest_key"],
        ["manifests.manifest_key"],
        name="manifest_layers_belong_to_a_manifest",
        ondelete="CASCADE",
    ),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is one occurrence of a layer in a manifest; triggers count its uses",
)

target_manifests = Table(
    "target_manifests",
    metadata,
    Column("target_key", Integer, nullable=False),
    Column("position", Integer, nullable=False, comment="in the order of the documents, depth first"),
    Column("manifest_key", Integer, nullable=False),
    Column(
        "platform",
        Text,
        comment="normalized; null for a nested index, or if neither index nor config says",
    ),
    Column("is_attestation", Integer, nullable=False),
    PrimaryKeyConstraint("target_key", "position"),
    ForeignKeyConstraint(["target_key"], ["blobs.blob_key"], name="target_manifests_have_a_target"),
    ForeignKeyConstraint(["manifest_key"], ["blobs.blob_key"], name="target_manifests_are_blobs"),
    check("target_manifests_is_attestation_is_a_truth"),
    Index("target_manifests_by_manifest", "manifest_key"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a manifest or nested index beneath a target, or the target itself",
)

containers = Table(
    "containers",
    metadata,
    Column("container_id", Text, primary_key=True, nullable=False),
    Column("reference", Text, nullable=False, comment="of its image, as the container says"),
    Column(
        "image_id",
        Text,
        comment="what the reference named when the container was first seen; null if the store had none",
    ),
    Column("created_at", Integer, comment="microseconds since 1970, UTC"),
    Column("running", Integer, nullable=False),
    check("containers_running_is_a_truth"),
    Index("containers_by_image", "image_id"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a container of the source's namespace",
)

image_usage = Table(
    "image_usage",
    metadata,
    Column("image_id", Text, primary_key=True, nullable=False),
    Column("first_seen", Integer, nullable=False, comment="microseconds since 1970, UTC, as all times here"),
    Column("last_used", Integer, comment="null if no use was seen"),
    Column("uses", Integer, nullable=False, comment="containers seen, and uses reported"),
    check("image_usage_uses_are_counted"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is the use of an image in the store",
)

content_look = Table(
    "content_look",
    metadata,
    Column("look_key", Integer, primary_key=True),
    Column("blobs_at", Integer, comment="microseconds since 1970, UTC; null if it was never asked"),
    Column("snapshots_at", Integer),
    Column("containers_at", Integer),
    Column("snapshotter", Text),
    check("content_look_is_one_row"),
    sqlite_strict=True,
    comment="one row: when the source was last asked what it has",
)
