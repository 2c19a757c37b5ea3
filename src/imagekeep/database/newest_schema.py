"""The newest schema as SQLite's statements: what a new store is made with.

A new store is made without SQLAlchemy and alembic, which would cost a daemon that makes one 40 MB for as long as
it runs. The texts are those that the migrations leave in a file; a test compares them, object by object.
"""

from __future__ import annotations

VERSION_TABLE = """\
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)"""
"""Alembic's own table. A store that was downgraded to nothing still has it."""

STATEMENTS = (
    """\
CREATE TABLE reference_history ( /* append-only: a row is a change to a reference, written with it */
    sequence INTEGER NOT NULL /* grows with time */,
    reference TEXT NOT NULL,
    image_id TEXT NOT NULL /* named from then on; when vanished, until then */,
    target_digest TEXT /* null where no source was asked */,
    pinned INTEGER NOT NULL /* whether the reference pins the image from then on */,
    event TEXT NOT NULL,
    at INTEGER NOT NULL /* microseconds since 1970, UTC */, size INTEGER, platform TEXT,
    PRIMARY KEY (sequence),
    CONSTRAINT reference_history_events
        CHECK (event IN ('recorded', 'new', 'moved', 'retargeted', 'pinned', 'unpinned', 'vanished')),
    CONSTRAINT reference_history_pinned_is_a_truth
        CHECK (pinned IN (0, 1))
) STRICT""",
    """\
CREATE INDEX reference_history_by_reference ON reference_history (reference)""",
    """\
CREATE TRIGGER reference_history_is_not_rewritten
BEFORE UPDATE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE TRIGGER reference_history_is_not_replaced
BEFORE INSERT ON reference_history
WHEN NEW.sequence > 0 AND EXISTS (SELECT 1 FROM reference_history WHERE sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE TABLE incomplete_refs ( /* one row is a reference at the source whose image cannot be read, or not yet */
    reference TEXT NOT NULL,
    error TEXT NOT NULL /* why its image could not be read when last tried */,
    since INTEGER NOT NULL /* microseconds since 1970, UTC */,
    tried_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (reference)
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE watcher ( /* how far the last watcher of the source has come */
    watcher_key INTEGER NOT NULL,
    process_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    started_at INTEGER NOT NULL /* microseconds since 1970, UTC, as all times here */,
    connected_at INTEGER /* null while the source's events are not heard */,
    last_event_at INTEGER,
    last_reconcile_at INTEGER,
    events INTEGER NOT NULL,
    reconciles INTEGER NOT NULL,
    changes INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    last_error TEXT,
    stopped_at INTEGER /* null while it runs, or when it was killed */,
    PRIMARY KEY (watcher_key),
    CONSTRAINT watcher_is_one_row
        CHECK (watcher_key = 1)
) STRICT""",
    """\
CREATE TABLE identity ( /* one row: which store this is, and which source it follows */
    identity_key INTEGER NOT NULL,
    store_id TEXT NOT NULL /* 32 random hex digits; a restored store gets new ones */,
    source TEXT /* specifier of the source of the last sync of all references; null until then */,
    namespace TEXT /* containerd's; null for other sources */,
    PRIMARY KEY (identity_key),
    CONSTRAINT identity_is_one_row
        CHECK (identity_key = 1)
) STRICT""",
    """\
CREATE TABLE image_filesystem ( /* at most one row: the last ImageFsInfo reply of the source */
    filesystem_key INTEGER NOT NULL,
    mountpoint TEXT NOT NULL,
    used_bytes INTEGER /* null if the reply does not say */,
    inodes_used INTEGER,
    at INTEGER NOT NULL /* microseconds since 1970, UTC: the time in the reply */,
    PRIMARY KEY (filesystem_key),
    CONSTRAINT image_filesystem_is_one_row
        CHECK (filesystem_key = 1)
) STRICT""",
    """\
CREATE TABLE platforms ( /* one row is a platform for which the store keeps images */
    platform_key INTEGER NOT NULL /* 0 is the store's first platform */,
    platform TEXT /* normalized; null until the first update says which */,
    PRIMARY KEY (platform_key),
    CONSTRAINT platforms_are_unique UNIQUE (platform)
) STRICT""",
    """\
CREATE TABLE blobs ( /* one row is a blob that a reference needs: an index, a manifest, a config or a layer */
    blob_key INTEGER NOT NULL /* this file's own number for the blob */,
    digest TEXT NOT NULL,
    media_type TEXT /* as the first descriptor says; null if not known yet */,
    size INTEGER /* compressed bytes, as the first descriptor says; null if not known yet, or impossible */,
    present INTEGER /* whether the source had it when last looked; null if not known yet */,
    layer_uses INTEGER DEFAULT 0 NOT NULL /* rows of manifest_layers that name it */,
    PRIMARY KEY (blob_key),
    CONSTRAINT blobs_are_unique UNIQUE (digest),
    CONSTRAINT blobs_have_a_digest
        CHECK (substr(digest, 1, 7) || length(digest)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(digest, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(digest) = length(CAST(digest AS BLOB))),
    CONSTRAINT blobs_have_a_possible_size
        CHECK (size BETWEEN 0 AND 1099511627776),
    CONSTRAINT blobs_present_is_a_truth
        CHECK (present IN (0, 1)),
    CONSTRAINT blobs_layer_uses_are_counted
        CHECK (layer_uses >= 0)
) STRICT""",
    """\
CREATE TABLE documents ( /* apart from blobs, so that lists need not read past them */
    blob_key INTEGER NOT NULL,
    document BLOB NOT NULL /* an index, a manifest or a config, byte for byte; a config holds the environment */,
    PRIMARY KEY (blob_key),
    CONSTRAINT documents_belong_to_a_blob
        FOREIGN KEY(blob_key) REFERENCES blobs (blob_key) ON DELETE CASCADE
) STRICT""",
    """\
CREATE TABLE chains ( /* one row is a layer upon those beneath it */
    chain_key INTEGER NOT NULL,
    chain_id TEXT NOT NULL /* identifies the layer and all beneath it */,
    diff_id TEXT NOT NULL /* digest of the layer's uncompressed archive */,
    unpacked INTEGER /* whether the source has its snapshot; null if not known yet, or without snapshots */,
    unpacked_bytes INTEGER /* of this layer alone, on disk */,
    layer_uses INTEGER DEFAULT 0 NOT NULL /* rows of manifest_layers that name it */,
    PRIMARY KEY (chain_key),
    CONSTRAINT chains_are_unique UNIQUE (chain_id),
    CONSTRAINT chains_unpacked_is_a_truth
        CHECK (unpacked IN (0, 1)),
    CONSTRAINT chains_have_a_possible_size
        CHECK (unpacked_bytes BETWEEN 0 AND 1099511627776),
    CONSTRAINT chains_layer_uses_are_counted
        CHECK (layer_uses >= 0)
) STRICT""",
    """\
CREATE TABLE manifests ( /* one row is an image manifest that was read */
    manifest_key INTEGER NOT NULL /* its blob */,
    config_key INTEGER NOT NULL,
    compressed_size INTEGER /* bytes of manifest, config and every occurrence of a layer; null if impossible */,
    PRIMARY KEY (manifest_key),
    CONSTRAINT manifests_are_blobs
        FOREIGN KEY(manifest_key) REFERENCES blobs (blob_key),
    CONSTRAINT manifests_have_a_config
        FOREIGN KEY(config_key) REFERENCES blobs (blob_key)
) STRICT""",
    """\
CREATE INDEX manifests_by_config ON manifests (config_key)""",
    """\
CREATE TABLE manifest_layers ( /* one row is one occurrence of a layer in a manifest; triggers count its uses */
    manifest_key INTEGER NOT NULL,
    position INTEGER NOT NULL /* 0 is the lowest */,
    layer_key INTEGER NOT NULL /* its blob */,
    chain_key INTEGER /* of chains; null if the config does not say */,
    PRIMARY KEY (manifest_key, position),
    CONSTRAINT manifest_layers_belong_to_a_manifest
        FOREIGN KEY(manifest_key) REFERENCES manifests (manifest_key) ON DELETE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE target_manifests ( /* one row is a manifest or nested index beneath a target, or the target itself */
    target_key INTEGER NOT NULL,
    position INTEGER NOT NULL /* in the order of the documents, depth first */,
    manifest_key INTEGER NOT NULL,
    platform TEXT /* normalized; null for a nested index, or if neither index nor config says */,
    is_attestation INTEGER NOT NULL,
    PRIMARY KEY (target_key, position),
    CONSTRAINT target_manifests_have_a_target
        FOREIGN KEY(target_key) REFERENCES blobs (blob_key),
    CONSTRAINT target_manifests_are_blobs
        FOREIGN KEY(manifest_key) REFERENCES blobs (blob_key),
    CONSTRAINT target_manifests_is_attestation_is_a_truth
        CHECK (is_attestation IN (0, 1))
) WITHOUT ROWID, STRICT""",
    """\
CREATE INDEX target_manifests_by_manifest ON target_manifests (manifest_key)""",
    """\
CREATE TABLE images ( /* one row is an image on this node for one platform */
    image_key INTEGER NOT NULL /* this file's own number for the image */,
    id TEXT NOT NULL /* digest of the config document: sha256: and 64 hex */,
    chain_id TEXT NOT NULL /* identifies the ordered layers; empty without layers */,
    size INTEGER NOT NULL /* compressed bytes: index, manifest, config, layers */,
    platform_key INTEGER DEFAULT 0 NOT NULL /* 0 is the store's first platform */,
    config_key INTEGER NOT NULL,
    PRIMARY KEY (image_key),
    CONSTRAINT images_id_is_unique UNIQUE (platform_key, id),
    CONSTRAINT images_belong_to_one_platform UNIQUE (image_key, platform_key),
    CONSTRAINT images_id_is_a_digest
        CHECK (substr(id, 1, 7) || length(id)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(id, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(id) = length(CAST(id AS BLOB))),
    CONSTRAINT images_have_a_platform
        FOREIGN KEY(platform_key) REFERENCES platforms (platform_key),
    CONSTRAINT images_have_a_config
        FOREIGN KEY(config_key) REFERENCES blobs (blob_key)
) STRICT""",
    """\
CREATE INDEX images_by_config ON images (config_key)""",
    """\
CREATE TABLE "references" ( /* one row is one name of one image, for one platform */
    platform_key INTEGER DEFAULT 0 NOT NULL /* 0 is the store's first platform */,
    name TEXT NOT NULL /* as the source spells it */,
    image_key INTEGER NOT NULL,
    sort_rank INTEGER NOT NULL /* 0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other */,
    sort_name TEXT /* canonical spelling, where not the name; order by rank, this */,
    PRIMARY KEY (platform_key, name),
    CONSTRAINT references_of_an_image UNIQUE (image_key, name),
    CONSTRAINT references_have_a_name
        CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 32768),
    CONSTRAINT references_have_a_sort_rank
        CHECK (sort_rank BETWEEN 0 AND 5),
    CONSTRAINT references_name_an_image
        FOREIGN KEY(image_key, platform_key) REFERENCES images (image_key, platform_key) ON DELETE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE pinned_refs ( /* one row is a reference that keeps its image from garbage collection */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    PRIMARY KEY (reference, image_key),
    CONSTRAINT pinned_refs_are_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE ref_cache ( /* one row is what the source last said of a reference, and when */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    target_digest TEXT NOT NULL /* of the manifest or index it points at */,
    manifest_key INTEGER /* the manifest chosen beneath the target; null if not known yet */,
    verified_at INTEGER NOT NULL /* microseconds since 1970, UTC */,
    PRIMARY KEY (reference, image_key),
    CONSTRAINT ref_cache_agrees_with_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT ref_cache_target_is_a_blob
        FOREIGN KEY(target_digest) REFERENCES blobs (digest),
    CONSTRAINT ref_cache_manifest_was_read
        FOREIGN KEY(manifest_key) REFERENCES manifests (manifest_key)
) WITHOUT ROWID, STRICT""",
    """\
CREATE INDEX ref_cache_by_target ON ref_cache (target_digest)""",
    """\
CREATE INDEX ref_cache_by_manifest ON ref_cache (manifest_key)""",
    """\
CREATE TABLE containers ( /* one row is a container of the source's namespace */
    container_id TEXT NOT NULL,
    reference TEXT NOT NULL /* of its image, as the container says */,
    image_id TEXT /* what the reference named when the container was first seen; null if the store had none */,
    created_at INTEGER /* microseconds since 1970, UTC */,
    running INTEGER NOT NULL,
    PRIMARY KEY (container_id),
    CONSTRAINT containers_running_is_a_truth
        CHECK (running IN (0, 1))
) WITHOUT ROWID, STRICT""",
    """\
CREATE INDEX containers_by_image ON containers (image_id)""",
    """\
CREATE TABLE image_usage ( /* one row is the use of an image in the store */
    image_id TEXT NOT NULL,
    first_seen INTEGER NOT NULL /* microseconds since 1970, UTC, as all times here */,
    last_used INTEGER /* null if no use was seen */,
    uses INTEGER NOT NULL /* containers seen, and uses reported */,
    PRIMARY KEY (image_id),
    CONSTRAINT image_usage_uses_are_counted
        CHECK (uses >= 0)
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE content_look ( /* one row: when the source was last asked what it has */
    look_key INTEGER NOT NULL,
    blobs_at INTEGER /* microseconds since 1970, UTC; null if it was never asked */,
    snapshots_at INTEGER,
    containers_at INTEGER,
    snapshotter TEXT,
    PRIMARY KEY (look_key),
    CONSTRAINT content_look_is_one_row
        CHECK (look_key = 1)
) STRICT""",
    """\
CREATE TABLE history_cuts ( /* one row is a time when old history was removed */
    cut_key INTEGER NOT NULL,
    older_than INTEGER NOT NULL /* rows before this time; microseconds since 1970, UTC */,
    removed INTEGER /* how many rows; null while they are being removed */,
    at INTEGER NOT NULL,
    PRIMARY KEY (cut_key)
) STRICT""",
    """\
CREATE TRIGGER an_image_goes_with_its_last_reference
AFTER DELETE ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    """\
CREATE TRIGGER an_image_goes_when_its_last_reference_moves
AFTER UPDATE OF image_key ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    """\
CREATE TRIGGER a_reference_is_not_replaced
BEFORE INSERT ON "references" /* REPLACE fires no trigger on what it deletes: the old image would stay */
WHEN EXISTS (
    SELECT 1 FROM "references"
    WHERE platform_key = NEW.platform_key AND name = NEW.name AND image_key <> NEW.image_key
)
BEGIN
    SELECT RAISE(ABORT, 'references.name: names another image; UPDATE its image_key');
END""",
    """\
CREATE TRIGGER a_reference_takes_no_name_of_another
BEFORE UPDATE OF name, platform_key ON "references" /* for the same reason: UPDATE OR REPLACE */
WHEN (NEW.platform_key, NEW.name) <> (OLD.platform_key, OLD.name)
    AND EXISTS (SELECT 1 FROM "references" WHERE platform_key = NEW.platform_key AND name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'references.name: is taken');
END""",
    """\
CREATE TRIGGER a_config_goes_with_its_last_image
AFTER DELETE ON images
WHEN NOT EXISTS (SELECT 1 FROM images WHERE config_key = OLD.config_key)
BEGIN
    DELETE FROM image_usage WHERE image_id = OLD.id;
    DELETE FROM blobs
    WHERE blob_key = OLD.config_key
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_target_goes_with_its_last_reference
AFTER DELETE ON ref_cache
WHEN NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = OLD.target_digest)
BEGIN
    DELETE FROM target_manifests WHERE target_key = (SELECT blob_key FROM blobs WHERE digest = OLD.target_digest);
    DELETE FROM blobs
    WHERE digest = OLD.target_digest
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_target_goes_when_its_last_reference_moves
AFTER UPDATE OF target_digest ON ref_cache
WHEN NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = OLD.target_digest)
BEGIN
    DELETE FROM target_manifests WHERE target_key = (SELECT blob_key FROM blobs WHERE digest = OLD.target_digest);
    DELETE FROM blobs
    WHERE digest = OLD.target_digest
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_manifest_goes_with_its_last_target
AFTER DELETE ON target_manifests
WHEN NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = OLD.manifest_key)
BEGIN
    DELETE FROM manifests WHERE manifest_key = OLD.manifest_key;
    DELETE FROM blobs
    WHERE blob_key = OLD.manifest_key
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_config_goes_with_its_last_manifest
AFTER DELETE ON manifests
BEGIN
    DELETE FROM blobs
    WHERE blob_key = OLD.config_key
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_layer_is_counted
AFTER INSERT ON manifest_layers
BEGIN
    SELECT RAISE(ABORT, 'manifest_layers.layer_key: no such blob')
    WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blob_key = NEW.layer_key);
    UPDATE blobs SET layer_uses = layer_uses + 1 WHERE blob_key = NEW.layer_key;
    UPDATE chains SET layer_uses = layer_uses + 1 WHERE chain_key = NEW.chain_key;
END""",
    """\
CREATE TRIGGER a_chain_that_becomes_known_is_counted
AFTER UPDATE OF chain_key ON manifest_layers
WHEN OLD.chain_key IS NULL
BEGIN
    UPDATE chains SET layer_uses = layer_uses + 1 WHERE chain_key = NEW.chain_key;
END""",
    """\
CREATE TRIGGER a_layer_is_not_rewritten
BEFORE UPDATE ON manifest_layers
WHEN (NEW.manifest_key, NEW.position, NEW.layer_key) <> (OLD.manifest_key, OLD.position, OLD.layer_key)
    OR NEW.chain_key IS NOT coalesce(OLD.chain_key, NEW.chain_key)
BEGIN
    SELECT RAISE(ABORT, 'manifest_layers: the layers of a manifest never change');
END""",
    """\
CREATE TRIGGER a_layer_goes_with_its_last_manifest
AFTER DELETE ON manifest_layers
BEGIN
    UPDATE blobs SET layer_uses = layer_uses - 1 WHERE blob_key = OLD.layer_key;
    DELETE FROM blobs
    WHERE blob_key = OLD.layer_key
        AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0;
    UPDATE chains SET layer_uses = layer_uses - 1 WHERE chain_key = OLD.chain_key;
    DELETE FROM chains WHERE chain_key = OLD.chain_key AND layer_uses = 0;
END""",
    """\
CREATE TRIGGER a_layer_that_is_used_stays
BEFORE DELETE ON blobs
WHEN OLD.layer_uses > 0
BEGIN
    SELECT RAISE(ABORT, 'blobs: a manifest has this layer');
END""",
    """\
CREATE TRIGGER a_chain_that_is_used_stays
BEFORE DELETE ON chains
WHEN OLD.layer_uses > 0
BEGIN
    SELECT RAISE(ABORT, 'chains: a manifest has this layer');
END""",
    """\
CREATE TRIGGER reference_history_is_not_shortened
BEFORE DELETE ON reference_history /* except by a cut, which keeps the last row of what still exists */
WHEN NOT EXISTS (SELECT 1 FROM history_cuts WHERE removed IS NULL AND older_than > OLD.at)
    OR (
        OLD.event <> 'vanished'
        AND OLD.sequence = (
            SELECT max(sequence) FROM reference_history
            WHERE reference = OLD.reference AND (platform IS OLD.platform OR OLD.platform IS NULL)
        )
    )
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE TRIGGER history_cuts_are_not_rewritten
BEFORE UPDATE ON history_cuts
WHEN OLD.removed IS NOT NULL OR (NEW.cut_key, NEW.older_than, NEW.at) <> (OLD.cut_key, OLD.older_than, OLD.at)
BEGIN
    SELECT RAISE(ABORT, 'history_cuts is append-only');
END""",
    """\
CREATE TRIGGER history_cuts_are_not_removed
BEFORE DELETE ON history_cuts
BEGIN
    SELECT RAISE(ABORT, 'history_cuts is append-only');
END""",
    """\
CREATE VIEW manifest_list AS /* one row is an image manifest that was read, of any platform */
SELECT
    blobs.digest, /* of the manifest */
    configs.digest AS image_id, /* digest of its config document */
    manifests.compressed_size AS size, /* compressed bytes of manifest, config and every layer; null if impossible */
    (SELECT count(*) FROM manifest_layers WHERE manifest_layers.manifest_key = manifests.manifest_key) AS layers, /* how many */
    CASE
        WHEN blobs.present = 0 THEN 'absent'
        WHEN manifests.compressed_size IS NULL OR configs.present = 0 OR EXISTS (
            SELECT 1 FROM manifest_layers JOIN blobs AS layers ON layers.blob_key = layer_key
            WHERE manifest_layers.manifest_key = manifests.manifest_key AND layers.present = 0
        ) THEN 'partial'
        WHEN blobs.present IS NULL OR configs.present IS NULL OR EXISTS (
            SELECT 1 FROM manifest_layers JOIN blobs AS layers ON layers.blob_key = layer_key
            WHERE manifest_layers.manifest_key = manifests.manifest_key AND layers.present IS NULL
        ) THEN NULL
        ELSE 'complete'
    END AS state /* complete, partial or absent, as the source last had its content; null if not known yet */
FROM manifests
JOIN blobs ON blobs.blob_key = manifests.manifest_key
JOIN blobs AS configs ON configs.blob_key = manifests.config_key""",
    """\
CREATE VIEW content_list AS /* one row is a blob that an image of the first platform keeps at the source, by any of its names */
SELECT
    images.id AS image_id, /* digest of the config document of the image */
    blobs.digest, /* of the blob */
    blobs.size, /* compressed bytes; null if not known yet */
    blobs.media_type, /* of the blob */
    blobs.present /* whether the source had it when last looked; null if not known yet */
FROM (
    SELECT ref_cache.image_key, blobs.blob_key
    FROM ref_cache JOIN blobs ON blobs.digest = ref_cache.target_digest
    UNION
    SELECT ref_cache.image_key, target_manifests.manifest_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    UNION
    SELECT ref_cache.image_key, manifests.config_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    JOIN manifests ON manifests.manifest_key = target_manifests.manifest_key
    UNION
    SELECT ref_cache.image_key, manifest_layers.layer_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    JOIN manifest_layers ON manifest_layers.manifest_key = target_manifests.manifest_key
) AS content
JOIN images ON images.image_key = content.image_key
JOIN blobs ON blobs.blob_key = content.blob_key
WHERE images.platform_key = 0""",
    """\
CREATE VIEW image_list AS /* one row is an image of the first platform */
SELECT
    images.id, /* digest of the config document */
    (
        SELECT json_group_array(name)
        FROM (
            SELECT name FROM "references"
            WHERE "references".image_key = images.image_key
            ORDER BY sort_rank, coalesce(sort_name, name), name
        )
    ) AS reference_names, /* its references, a list in docker's order */
    images.size, /* compressed bytes of index, manifest, config and every layer, as containerd reports them */
    EXISTS (
        SELECT 1 FROM "references" JOIN pinned_refs ON reference = name AND pinned_refs.image_key = images.image_key
        WHERE "references".image_key = images.image_key
    ) AS pinned, /* whether a reference pins it */
    images.chain_id, /* identifies the ordered layers; empty without layers */
    (
        SELECT name FROM "references"
        WHERE "references".image_key = images.image_key
        ORDER BY sort_rank, coalesce(sort_name, name), name
        LIMIT 1
    ) AS name, /* its first reference in docker's order */
    (
        SELECT CASE
            WHEN max(manifest_list.state = 'complete') THEN 'complete'
            WHEN max(manifest_list.state = 'partial') THEN 'partial'
            ELSE max(manifest_list.state)
        END
        FROM "references"
        JOIN ref_cache ON reference = name AND ref_cache.image_key = images.image_key
        JOIN blobs ON blobs.blob_key = ref_cache.manifest_key
        JOIN manifest_list ON manifest_list.digest = blobs.digest
        WHERE "references".image_key = images.image_key
    ) AS state, /* complete, partial or absent, as the source last had its content; null if not known yet */
    CASE
        WHEN (SELECT containers_at FROM content_look) IS NOT NULL
            THEN EXISTS (SELECT 1 FROM containers WHERE containers.image_id = images.id)
    END AS in_use, /* whether a container has it, running or not; null if containers are not known yet */
    (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', first_seen / 1000000.0, 'unixepoch')
        FROM image_usage WHERE image_id = images.id) AS first_seen, /* when the store first had it: ISO 8601, UTC */
    (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', last_used / 1000000.0, 'unixepoch')
        FROM image_usage WHERE image_id = images.id) AS last_used /* when a container last had it: ISO 8601, UTC; null if no use was seen */
FROM images
WHERE images.platform_key = 0""",
    """\
CREATE VIEW reference_list AS /* one row is a reference of the first platform */
SELECT
    reference, /* as the source spells it */
    image_id, /* digest of the config document of its image */
    target_digest, /* of the manifest or index; null if no source was asked */
    pinned, /* whether it pins its image */
    verified, /* when the source last confirmed it: ISO 8601, UTC */
    CAST(substr(repository, 1, instr(repository, '/') - 1) AS TEXT) AS registry, /* host and port, docker.io for short names; null for an image id and for what is not a reference */
    CAST(repository AS TEXT) AS repository, /* registry and path without tag and digest; null like registry */
    CAST(CASE WHEN instr(last, ':') THEN substr(last, instr(last, ':') + 1) END AS TEXT) AS tag, /* null without a tag */
    CAST(CASE WHEN instr(spelling, '@') THEN substr(spelling, instr(spelling, '@') + 1) END AS TEXT) AS digest, /* the digest in the reference; null without one */
    CASE sort_rank
        WHEN 0 THEN 'tag and digest'
        WHEN 1 THEN 'tag'
        WHEN 2 THEN 'digest'
        WHEN 3 THEN 'name'
        WHEN 4 THEN 'id'
        ELSE 'other'
    END AS kind /* tag, digest, tag and digest, name, id or other */
FROM (
    SELECT
        *,
        directory || CASE WHEN instr(last, ':') THEN substr(last, 1, instr(last, ':') - 1) ELSE last END AS repository
    FROM (
        SELECT *, substr(undigested, length(directory) + 1) AS last
        FROM (
            SELECT *, rtrim(undigested, replace(undigested, '/', '')) AS directory
            FROM (
                SELECT
                    *,
                    CASE WHEN instr(spelling, '@') THEN substr(spelling, 1, instr(spelling, '@') - 1) ELSE spelling END
                        AS undigested
                FROM (
                    SELECT
                        "references".name AS reference,
                        "references".sort_rank,
                        CASE WHEN sort_rank < 4 THEN coalesce(sort_name, "references".name) END AS spelling,
                        images.id AS image_id,
                        ref_cache.target_digest,
                        pinned_refs.reference IS NOT NULL AS pinned,
                        strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
                    FROM "references"
                    JOIN images ON images.image_key = "references".image_key
                    LEFT JOIN ref_cache
                        ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
                    LEFT JOIN pinned_refs
                        ON pinned_refs.reference = "references".name AND pinned_refs.image_key = "references".image_key
                    WHERE "references".platform_key = 0
                )
            )
        )
    )
)""",
    """\
CREATE VIEW config_list AS /* one row is what the config of an image of the first platform says, without Env and Labels */
SELECT
    id, /* digest of the config document */
    json_extract(config, '$.os') AS os, /* operating system */
    json_extract(config, '$.architecture') AS architecture, /* as Go spells it: amd64, arm64 */
    json_extract(config, '$.variant') AS variant, /* of the architecture: v7, v8 */
    json_extract(config, '$.created') AS created, /* when it was built, as the config says it */
    json_extract(config, '$.config.User') AS user, /* user and group, by name or number */
    json_extract(config, '$.config.WorkingDir') AS working_directory, /* where the command starts */
    json_extract(config, '$.config.Entrypoint') AS entrypoint, /* a list */
    json_extract(config, '$.config.Cmd') AS command, /* a list: the entrypoint's arguments */
    json_array_length(config, '$.rootfs.diff_ids') AS layers, /* how many */
    CASE
        WHEN json_type(config, '$.config.ExposedPorts') = 'object'
            THEN (SELECT json_group_array(key) FROM json_each(config, '$.config.ExposedPorts'))
    END AS ports, /* exposed ports, a list */
    CASE
        WHEN json_type(config, '$.config.Volumes') = 'object'
            THEN (SELECT json_group_array(key) FROM json_each(config, '$.config.Volumes'))
    END AS volumes, /* mount points of volumes, a list */
    json_extract(config, '$.config.StopSignal') AS stop_signal /* sent to stop a container; null means SIGTERM */
FROM (
    SELECT images.id, CASE WHEN json_valid(CAST(document AS TEXT)) THEN CAST(document AS TEXT) END AS config
    FROM images JOIN documents ON documents.blob_key = images.config_key
    WHERE images.platform_key = 0
)""",
    """\
CREATE VIEW platform_list AS /* one row is a manifest beneath the target of a reference: one platform of a multi-platform image */
SELECT
    "references".name AS reference, /* as the source spells it */
    target_manifests.platform, /* normalized: linux/amd64, linux/arm/v7; null if neither index nor config says */
    configs.digest AS image_id, /* digest of the config document; null if the manifest was not read */
    blobs.digest AS manifest_digest, /* of the manifest */
    manifests.compressed_size AS size, /* compressed bytes of manifest, config and every layer; null if the manifest was not read */
    CASE
        WHEN blobs.present = 0 THEN 'absent'
        WHEN manifests.manifest_key IS NULL AND EXISTS (
            SELECT 1 FROM documents WHERE documents.blob_key = blobs.blob_key
        ) THEN 'partial'
        ELSE (SELECT state FROM manifest_list WHERE digest = blobs.digest)
    END AS state, /* complete, partial or absent, as the source last had its content; null if not known yet */
    coalesce(ref_cache.manifest_key = target_manifests.manifest_key, 0) AS chosen, /* whether it is the manifest of the first platform */
    target_manifests.is_attestation AS attestation, /* whether it describes another manifest and is no image */
    target_manifests.position, /* in the index, depth first */
    ref_cache.target_digest /* of the manifest or index that the reference points at */
FROM "references"
JOIN ref_cache ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
JOIN blobs AS targets ON targets.digest = ref_cache.target_digest
JOIN target_manifests ON target_manifests.target_key = targets.blob_key
JOIN blobs ON blobs.blob_key = target_manifests.manifest_key
LEFT JOIN manifests ON manifests.manifest_key = target_manifests.manifest_key
LEFT JOIN blobs AS configs ON configs.blob_key = manifests.config_key
WHERE "references".platform_key = 0
    AND coalesce(blobs.media_type, '') NOT IN (
        'application/vnd.oci.image.index.v1+json',
        'application/vnd.docker.distribution.manifest.list.v2+json'
    )""",
    """\
CREATE VIEW layer_list AS /* one row is one occurrence of a layer in an image manifest, of any platform */
SELECT
    configs.digest AS image_id, /* digest of the config document */
    manifest_blobs.digest AS manifest_digest, /* of the manifest */
    manifest_layers.position, /* 0 is the lowest */
    layers.digest, /* of the layer, as it is stored */
    layers.size, /* compressed bytes; null if impossible */
    layers.media_type, /* tells the compression */
    layers.present, /* whether the source had it when last looked; null if not known yet */
    chains.diff_id, /* digest of the uncompressed layer; null if the config does not say */
    chains.chain_id, /* identifies the layer and all beneath it */
    chains.unpacked, /* whether the source has its snapshot; null if not known yet */
    chains.unpacked_bytes /* of this layer alone, on disk; null if not known yet */
FROM manifest_layers
JOIN manifests ON manifests.manifest_key = manifest_layers.manifest_key
JOIN blobs AS manifest_blobs ON manifest_blobs.blob_key = manifests.manifest_key
JOIN blobs AS configs ON configs.blob_key = manifests.config_key
JOIN blobs AS layers ON layers.blob_key = manifest_layers.layer_key
LEFT JOIN chains ON chains.chain_key = manifest_layers.chain_key""",
    """\
CREATE VIEW size_list AS /* one row is what an image of the first platform takes at the source, over all platforms that are there */
SELECT
    content_list.image_id, /* digest of the config document */
    coalesce(sum(content_list.size), 0) AS content_size, /* compressed bytes of all its blobs, each once */
    coalesce(sum(CASE WHEN users.images = 1 THEN content_list.size END), 0) AS unique_size, /* bytes of those that no other image needs: what removing it alone frees */
    coalesce(sum(CASE WHEN users.images > 1 THEN content_list.size END), 0) AS shared_size /* bytes of those that other images need too */
FROM content_list
JOIN (SELECT digest, count(*) AS images FROM content_list GROUP BY digest) AS users
    ON users.digest = content_list.digest
WHERE content_list.present IS NOT 0
GROUP BY content_list.image_id""",
    """\
CREATE VIEW container_list AS /* one row is a container of the source's namespace */
SELECT
    container_id, /* as the source names it */
    reference, /* of its image, as the container says */
    image_id, /* what the reference named when the container was first seen; null if the store had none */
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS created, /* ISO 8601, UTC */
    running /* whether it ran when last looked */
FROM containers""",
    """\
CREATE VIEW usage_list AS /* one row is the use of an image */
SELECT
    image_usage.image_id, /* digest of the config document */
    strftime('%Y-%m-%dT%H:%M:%fZ', first_seen / 1000000.0, 'unixepoch') AS first_seen, /* when the store first had it: ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', last_used / 1000000.0, 'unixepoch') AS last_used, /* when a container last had it: ISO 8601, UTC; null if no use was seen */
    uses, /* containers seen, and uses reported */
    (SELECT count(*) FROM containers WHERE containers.image_id = image_usage.image_id) AS containers, /* how many have it now, running or not */
    (SELECT count(*) FROM containers WHERE containers.image_id = image_usage.image_id AND running) AS running /* how many of them run */
FROM image_usage""",
    """\
CREATE VIEW history_list AS /* one row is a change to a reference, the newest last */
SELECT
    sequence, /* grows with time */
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time, /* ISO 8601, UTC */
    reference, /* as the source spells it */
    event, /* new, moved, retargeted, pinned, unpinned, vanished; recorded if older than the history */
    image_id, /* named from then on; if vanished, until then */
    target_digest, /* of the manifest or index; null if no source was asked */
    pinned, /* whether the reference pins the image from then on */
    size, /* compressed bytes; null in rows before revision 0005, and if vanished */
    platform /* null in rows before revision 0005 */
FROM reference_history""",
    """\
CREATE VIEW pin_list AS /* one row is a reference of the first platform that pins its image */
SELECT
    pinned_refs.reference, /* as the source spells it */
    images.id AS image_id, /* digest of the config document */
    (
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(at) / 1000000.0, 'unixepoch')
        FROM reference_history
        WHERE reference_history.reference = pinned_refs.reference
            AND pinned
            AND event <> 'recorded'
            AND sequence > coalesce(
                (
                    SELECT max(sequence) FROM reference_history
                    WHERE reference_history.reference = pinned_refs.reference AND (NOT pinned OR event = 'vanished')
                ),
                0
            )
    ) AS since /* when it began to pin an image: ISO 8601, UTC; null if older than the history */
FROM pinned_refs
JOIN images ON images.image_key = pinned_refs.image_key
WHERE images.platform_key = 0""",
    """\
CREATE VIEW gc_list AS /* one row is an image that a kubelet may collect: not pinned, and no known container has it */
SELECT
    row_number() OVER (ORDER BY image_usage.last_used, image_usage.first_seen, images.id) AS position, /* 1 goes first: never used, else least recently used; then first seen; then id */
    images.id AS image_id, /* digest of the config document */
    images.size, /* compressed bytes, which a kubelet counts as freed; shared layers make it less */
    strftime('%Y-%m-%dT%H:%M:%fZ', image_usage.first_seen / 1000000.0, 'unixepoch') AS first_seen, /* ISO 8601, UTC; a kubelet spares an image for two minutes after it */
    strftime('%Y-%m-%dT%H:%M:%fZ', image_usage.last_used / 1000000.0, 'unixepoch') AS last_used /* ISO 8601, UTC; null if no use was seen */
FROM images
LEFT JOIN image_usage ON image_usage.image_id = images.id
WHERE images.platform_key = 0
    AND NOT EXISTS (SELECT 1 FROM pinned_refs WHERE pinned_refs.image_key = images.image_key)
    AND NOT EXISTS (SELECT 1 FROM containers WHERE containers.image_id = images.id)""",
    """\
CREATE VIEW incomplete_list AS /* one row is a reference at the source whose image cannot be read, or not yet */
SELECT
    reference, /* as the source spells it */
    error, /* why its image could not be read when last tried */
    strftime('%Y-%m-%dT%H:%M:%fZ', since / 1000000.0, 'unixepoch') AS since, /* ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', tried_at / 1000000.0, 'unixepoch') AS tried, /* when last tried: ISO 8601, UTC */
    tries /* how often */
FROM incomplete_refs""",
    """\
CREATE VIEW store_list AS /* one row: the store, its source, and when the source was last asked */
SELECT
    identity.store_id, /* 32 random hex digits; a restored store gets new ones */
    identity.source, /* specifier of the source of the last sync of all references; null until then */
    identity.namespace, /* containerd's; null for other sources */
    (SELECT platform FROM platforms WHERE platform_key = 0) AS platform, /* the first platform; null until the first update */
    1 AS contract, /* version of these views; PRAGMA user_version is the same */
    (SELECT count(*) FROM images WHERE platform_key = 0) AS images, /* how many of the first platform */
    (SELECT count(*) FROM "references" WHERE platform_key = 0) AS reference_names, /* how many references of the first platform */
    strftime('%Y-%m-%dT%H:%M:%fZ', content_look.blobs_at / 1000000.0, 'unixepoch') AS contents_listed, /* when the source was last asked what blobs it has: ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', content_look.containers_at / 1000000.0, 'unixepoch') AS containers_listed /* when the source was last asked for its containers: ISO 8601, UTC */
FROM identity CROSS JOIN content_look""",
)

SET_REVISION = "INSERT INTO alembic_version (version_num) VALUES (?)"

FIRST_ROWS = (
    "INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))",
    "INSERT INTO platforms (platform_key) VALUES (0)",
    "INSERT INTO content_look (look_key) VALUES (1)",
)
"""What a new store begins with."""
