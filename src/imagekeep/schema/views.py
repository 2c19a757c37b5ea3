"""The views of a store: the contract for SQL.

A release may add views and columns. If it removes or changes one, it raises CONTRACT, which is SQLite's
user_version in the file. The comments here are in the file too, beside each column.
"""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, Table, Text

from imagekeep.database.revision import CONTRACT

__all__ = [
    "CONTRACT",
    "config_list",
    "container_list",
    "content_list",
    "gc_list",
    "history_list",
    "image_list",
    "incomplete_list",
    "layer_list",
    "manifest_list",
    "pin_list",
    "platform_list",
    "reference_list",
    "size_list",
    "store_list",
    "usage_list",
    "views",
]

views = MetaData()
"""The views, apart from the tables: alembic compares only those."""

image_list = Table(
    "image_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("reference_names", JSON, comment="its references, a list in docker's order"),
    Column(
        "size",
        Integer,
        comment="compressed bytes of index, manifest, config and every layer, as containerd reports them",
    ),
    Column("pinned", Boolean, comment="whether a reference pins it"),
    Column("chain_id", Text, comment="identifies the ordered layers; empty without layers"),
    Column("name", Text, comment="its first reference in docker's order"),
    Column(
        "state",
        Text,
        comment="complete, partial or absent, as the source last had its content; null if not known yet",
    ),
    Column(
        "in_use",
        Boolean,
        comment="whether a container has it, running or not; null if containers are not known yet",
    ),
    Column("first_seen", Text, comment="when the store first had it: ISO 8601, UTC"),
    Column("last_used", Text, comment="when a container last had it: ISO 8601, UTC; null if no use was seen"),
    comment="one row is an image of the first platform",
)

reference_list = Table(
    "reference_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column("image_id", Text, comment="digest of the config document of its image"),
    Column("target_digest", Text, comment="of the manifest or index; null if no source was asked"),
    Column("pinned", Boolean, comment="whether it pins its image"),
    Column("verified", Text, comment="when the source last confirmed it: ISO 8601, UTC"),
    Column(
        "registry",
        Text,
        comment="host and port, docker.io for short names; null for an image id and for what is not a reference",
    ),
    Column("repository", Text, comment="registry and path without tag and digest; null like registry"),
    Column("tag", Text, comment="null without a tag"),
    Column("digest", Text, comment="the digest in the reference; null without one"),
    Column("kind", Text, comment="tag, digest, tag and digest, name, id or other"),
    comment="one row is a reference of the first platform",
)

config_list = Table(
    "config_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("os", Text, comment="operating system"),
    Column("architecture", Text, comment="as Go spells it: amd64, arm64"),
    Column("variant", Text, comment="of the architecture: v7, v8"),
    Column("created", Text, comment="when it was built, as the config says it"),
    Column("user", Text, comment="user and group, by name or number"),
    Column("working_directory", Text, comment="where the command starts"),
    Column("entrypoint", JSON, comment="a list"),
    Column("command", JSON, comment="a list: the entrypoint's arguments"),
    Column("layers", Integer, comment="how many"),
    Column("ports", JSON, comment="exposed ports, a list"),
    Column("volumes", JSON, comment="mount points of volumes, a list"),
    Column("stop_signal", Text, comment="sent to stop a container; null means SIGTERM"),
    comment="one row is what the config of an image of the first platform says, without Env and Labels",
)

manifest_list = Table(
    "manifest_list",
    views,
    Column("digest", Text, comment="of the manifest"),
    Column("image_id", Text, comment="digest of its config document"),
    Column(
        "size", Integer, comment="compressed bytes of manifest, config and every layer; null if impossible"
    ),
    Column("layers", Integer, comment="how many"),
    Column(
        "state",
        Text,
        comment="complete, partial or absent, as the source last had its content; null if not known yet",
    ),
    comment="one row is an image manifest that was read, of any platform",
)

platform_list = Table(
    "platform_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column(
        "platform",
        Text,
        comment="normalized: linux/amd64, linux/arm/v7; null if neither index nor config says",
    ),
    Column("image_id", Text, comment="digest of the config document; null if the manifest was not read"),
    Column("manifest_digest", Text, comment="of the manifest"),
    Column(
        "size",
        Integer,
        comment="compressed bytes of manifest, config and every layer; null if the manifest was not read",
    ),
    Column(
        "state",
        Text,
        comment="complete, partial or absent, as the source last had its content; null if not known yet",
    ),
    Column("chosen", Boolean, comment="whether it is the manifest of the first platform"),
    Column("attestation", Boolean, comment="whether it describes another manifest and is no image"),
    Column("position", Integer, comment="in the index, depth first"),
    Column("target_digest", Text, comment="of the manifest or index that the reference points at"),
    comment="one row is a manifest beneath the target of a reference: one platform of a multi-platform image",
)

layer_list = Table(
    "layer_list",
    views,
    Column("image_id", Text, comment="digest of the config document"),
    Column("manifest_digest", Text, comment="of the manifest"),
    Column("position", Integer, comment="0 is the lowest"),
    Column("digest", Text, comment="of the layer, as it is stored"),
    Column("size", Integer, comment="compressed bytes; null if impossible"),
    Column("media_type", Text, comment="tells the compression"),
    Column("present", Boolean, comment="whether the source had it when last looked; null if not known yet"),
    Column("diff_id", Text, comment="digest of the uncompressed layer; null if the config does not say"),
    Column("chain_id", Text, comment="identifies the layer and all beneath it"),
    Column("unpacked", Boolean, comment="whether the source has its snapshot; null if not known yet"),
    Column("unpacked_bytes", Integer, comment="of this layer alone, on disk; null if not known yet"),
    comment="one row is one occurrence of a layer in an image manifest, of any platform",
)

content_list = Table(
    "content_list",
    views,
    Column("image_id", Text, comment="digest of the config document of the image"),
    Column("digest", Text, comment="of the blob"),
    Column("size", Integer, comment="compressed bytes; null if not known yet"),
    Column("media_type", Text, comment="of the blob"),
    Column("present", Boolean, comment="whether the source had it when last looked; null if not known yet"),
    comment="one row is a blob that an image of the first platform keeps at the source, by any of its names",
)

size_list = Table(
    "size_list",
    views,
    Column("image_id", Text, comment="digest of the config document"),
    Column("content_size", Integer, comment="compressed bytes of all its blobs, each once"),
    Column(
        "unique_size",
        Integer,
        comment="bytes of those that no other image needs: what removing it alone frees",
    ),
    Column("shared_size", Integer, comment="bytes of those that other images need too"),
    comment="one row is what an image of the first platform takes at the source, over all platforms that are there",
)

container_list = Table(
    "container_list",
    views,
    Column("container_id", Text, comment="as the source names it"),
    Column("reference", Text, comment="of its image, as the container says"),
    Column(
        "image_id",
        Text,
        comment="what the reference named when the container was first seen; null if the store had none",
    ),
    Column("created", Text, comment="ISO 8601, UTC"),
    Column("running", Boolean, comment="whether it ran when last looked"),
    comment="one row is a container of the source's namespace",
)

usage_list = Table(
    "usage_list",
    views,
    Column("image_id", Text, comment="digest of the config document"),
    Column("first_seen", Text, comment="when the store first had it: ISO 8601, UTC"),
    Column("last_used", Text, comment="when a container last had it: ISO 8601, UTC; null if no use was seen"),
    Column("uses", Integer, comment="containers seen, and uses reported"),
    Column("containers", Integer, comment="how many have it now, running or not"),
    Column("running", Integer, comment="how many of them run"),
    comment="one row is the use of an image",
)

history_list = Table(
    "history_list",
    views,
    Column("sequence", Integer, comment="grows with time"),
    Column("time", Text, comment="ISO 8601, UTC"),
    Column("reference", Text, comment="as the source spells it"),
    Column(
        "event",
        Text,
        comment="new, moved, retargeted, pinned, unpinned, vanished; recorded if older than the history",
    ),
    Column("image_id", Text, comment="named from then on; if vanished, until then"),
    Column("target_digest", Text, comment="of the manifest or index; null if no source was asked"),
    Column("pinned", Boolean, comment="whether the reference pins the image from then on"),
    Column("size", Integer, comment="compressed bytes; null in rows before revision 0005, and if vanished"),
    Column("platform", Text, comment="null in rows before revision 0005"),
    comment="one row is a change to a reference, the newest last",
)

pin_list = Table(
    "pin_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column("image_id", Text, comment="digest of the config document"),
    Column(
        "since", Text, comment="when it began to pin an image: ISO 8601, UTC; null if older than the history"
    ),
    comment="one row is a reference of the first platform that pins its image",
)

gc_list = Table(
    "gc_list",
    views,
    Column(
        "position",
        Integer,
        comment="1 goes first: never used, else least recently used; then first seen; then id",
    ),
    Column("image_id", Text, comment="digest of the config document"),
    Column(
        "size",
        Integer,
        comment="compressed bytes, which a kubelet counts as freed; shared layers make it less",
    ),
    Column("first_seen", Text, comment="ISO 8601, UTC; a kubelet spares an image for two minutes after it"),
    Column("last_used", Text, comment="ISO 8601, UTC; null if no use was seen"),
    comment="one row is an image that a kubelet may collect: not pinned, and no known container has it",
)

incomplete_list = Table(
    "incomplete_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column("error", Text, comment="why its image could not be read when last tried"),
    Column("since", Text, comment="ISO 8601, UTC"),
    Column("tried", Text, comment="when last tried: ISO 8601, UTC"),
    Column("tries", Integer, comment="how often"),
    comment="one row is a reference at the source whose image cannot be read, or not yet",
)

store_list = Table(
    "store_list",
    views,
    Column("store_id", Text, comment="32 random hex digits; a restored store gets new ones"),
    Column(
        "source", Text, comment="specifier of the source of the last sync of all references; null until then"
    ),
    Column("namespace", Text, comment="containerd's; null for other sources"),
    Column("platform", Text, comment="the first platform; null until the first update"),
    Column("contract", Integer, comment="version of these views; PRAGMA user_version is the same"),
    Column("images", Integer, comment="how many of the first platform"),
    Column("reference_names", Integer, comment="how many references of the first platform"),
    Column(
        "contents_listed", Text, comment="when the source was last asked what blobs it has: ISO 8601, UTC"
    ),
    Column(
        "containers_listed", Text, comment="when the source was last asked for its containers: ISO 8601, UTC"
    ),
    comment="one row: the store, its source, and when the source was last asked",
)
