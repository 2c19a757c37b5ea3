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
CREATE VIEW image_list AS /* one row an image of the first platform; its references as a JSON array, in order */
SELECT
    images.id,
    (
        SELECT json_group_array(name)
        FROM (
            SELECT name FROM "references"
            WHERE "references".image_key = images.image_key
            ORDER BY sort_rank, coalesce(sort_name, name), name
        )
    ) AS reference_names,
    images.size,
    EXISTS (
        SELECT 1 FROM "references" JOIN pinned_refs ON reference = name AND pinned_refs.image_key = images.image_key
        WHERE "references".image_key = images.image_key
    ) AS pinned,
    images.chain_id
FROM images
WHERE images.platform_key = 0""",
    """\
CREATE VIEW reference_list AS /* one row a reference of the first platform: its image, its target, its pin, its age */
SELECT
    "references".name AS reference,
    images.id AS image_id,
    ref_cache.target_digest,
    pinned_refs.reference IS NOT NULL AS pinned,
    strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
LEFT JOIN pinned_refs ON pinned_refs.reference = "references".name AND pinned_refs.image_key = "references".image_key
WHERE "references".platform_key = 0""",
    """\
CREATE VIEW config_list AS /* one row an image of the first platform: what its config says, but for Env and Labels */
SELECT
    id,
    json_extract(config, '$.os') AS os,
    json_extract(config, '$.architecture') AS architecture,
    json_extract(config, '$.variant') AS variant,
    json_extract(config, '$.created') AS created,
    json_extract(config, '$.config.User') AS user,
    json_extract(config, '$.config.WorkingDir') AS working_directory,
    json_extract(config, '$.config.Entrypoint') AS entrypoint,
    json_extract(config, '$.config.Cmd') AS command,
    json_array_length(config, '$.rootfs.diff_ids') AS layers
FROM (
    SELECT images.id, CASE WHEN json_valid(CAST(document AS TEXT)) THEN CAST(document AS TEXT) END AS config
    FROM images JOIN documents ON documents.blob_key = images.config_key
    WHERE images.platform_key = 0
)""",
    """\
CREATE VIEW history_list AS /* one row a change to a reference, the newest last */
SELECT
    sequence,
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time,
    reference,
    event,
    image_id,
    target_digest,
    pinned,
    size,
    platform
FROM reference_history""",
)

SET_REVISION = "INSERT INTO alembic_version (version_num) VALUES (?)"

FIRST_ROWS = (
    "INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))",
    "INSERT INTO platforms (platform_key) VALUES (0)",
    "INSERT INTO content_look (look_key) VALUES (1)",
)
"""What a new store begins with."""
