"""Keep several platforms, what images are made of, whether it is present, and who uses them.

Every image and reference of an upgraded store belongs to its first platform, which is the one that most of its
references were last verified for; those verified for another one lose their cache row, so that the next sync reads
them again. What an image is made of is unknown (null, or without rows) until the next sync.

Revision: 0005
"""

import re

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IS_A_DIGEST = """substr({0}, 1, 7) || length({0})
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr({0}, 8) NOT GLOB '*[^0-9a-f]*'
            AND length({0}) = length(CAST({0} AS BLOB))"""

VIEWS = ("history_list", "config_list", "reference_list", "image_list")

PUT_ASIDE = (
    *(f"DROP VIEW {name}" for name in VIEWS),
    "DROP TRIGGER an_image_goes_with_its_last_reference",
    "DROP TRIGGER an_image_goes_when_its_last_reference_moves",
    "DROP TRIGGER a_reference_is_not_replaced",
    "DROP TRIGGER a_reference_takes_no_name_of_another",
    "DROP TRIGGER reference_history_is_not_shortened",
    "ALTER TABLE ref_cache RENAME TO old_ref_cache",
    "ALTER TABLE pinned_refs RENAME TO old_pinned_refs",
    'ALTER TABLE "references" RENAME TO old_references',
    "ALTER TABLE configs RENAME TO old_configs",
    "ALTER TABLE images RENAME TO old_images",
)

TABLES = (
    """\
CREATE TABLE platforms ( /* one row is a platform for which the store keeps images */
    platform_key INTEGER NOT NULL /* 0 is the store's first platform */,
    platform TEXT /* normalized; null until the first update says which */,
    PRIMARY KEY (platform_key),
    CONSTRAINT platforms_are_unique UNIQUE (platform)
) STRICT""",
    f"""\
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
        CHECK ({IS_A_DIGEST.format("digest")}),
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
    "CREATE INDEX manifests_by_config ON manifests (config_key)",
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
    "CREATE INDEX target_manifests_by_manifest ON target_manifests (manifest_key)",
    f"""\
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
        CHECK ({IS_A_DIGEST.format("id")}),
    CONSTRAINT images_have_a_platform
        FOREIGN KEY(platform_key) REFERENCES platforms (platform_key),
    CONSTRAINT images_have_a_config
        FOREIGN KEY(config_key) REFERENCES blobs (blob_key)
) STRICT""",
    "CREATE INDEX images_by_config ON images (config_key)",
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
    "CREATE INDEX ref_cache_by_target ON ref_cache (target_digest)",
    "CREATE INDEX ref_cache_by_manifest ON ref_cache (manifest_key)",
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
    "CREATE INDEX containers_by_image ON containers (image_id)",
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
    "ALTER TABLE reference_history ADD COLUMN size INTEGER",
    "ALTER TABLE reference_history ADD COLUMN platform TEXT",
)

MOVE_ROWS = (
    """\
INSERT INTO platforms (platform_key, platform)
VALUES (0, (SELECT platform FROM old_ref_cache GROUP BY platform ORDER BY count(*) DESC, platform LIMIT 1))""",
    """\
INSERT INTO blobs (blob_key, digest, media_type, size)
SELECT image_key, id, NULL, length(document) FROM old_images JOIN old_configs USING (image_key)""",
    """\
INSERT INTO blobs (digest)
SELECT DISTINCT target_digest FROM old_ref_cache
WHERE platform IS (SELECT platform FROM platforms) ON CONFLICT DO NOTHING""",
    "INSERT INTO documents (blob_key, document) SELECT image_key, document FROM old_configs",
    """\
INSERT INTO images (image_key, id, chain_id, size, platform_key, config_key)
SELECT image_key, id, chain_id, size, 0, image_key FROM old_images""",
    """\
INSERT INTO "references" (name, image_key, sort_rank, sort_name, platform_key)
SELECT name, image_key, sort_rank, sort_name, 0 FROM old_references""",
    "INSERT INTO pinned_refs (reference, image_key) SELECT reference, image_key FROM old_pinned_refs",
    """\
INSERT INTO ref_cache (reference, image_key, target_digest, verified_at)
SELECT reference, image_key, target_digest, verified_at FROM old_ref_cache
WHERE platform IS (SELECT platform FROM platforms)""",
    """\
INSERT INTO image_usage (image_id, first_seen, uses)
SELECT id, coalesce(min(at), CAST(strftime('%s', 'now') AS INTEGER) * 1000000), 0
FROM old_images LEFT JOIN reference_history ON image_id = id
GROUP BY id""",
    "INSERT INTO content_look (look_key) VALUES (1)",
    "DROP TABLE old_ref_cache",
    "DROP TABLE old_pinned_refs",
    "DROP TABLE old_references",
    "DROP TABLE old_configs",
    "DROP TABLE old_images",
)

IS_UNUSED = """NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
        AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
        AND layer_uses = 0"""

FORGET_TARGET = f"""\
    DELETE FROM target_manifests WHERE target_key = (SELECT blob_key FROM blobs WHERE digest = OLD.target_digest);
    DELETE FROM blobs
    WHERE digest = OLD.target_digest
        AND {IS_UNUSED};
END"""

TRIGGERS = (
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
    f"""\
CREATE TRIGGER a_config_goes_with_its_last_image
AFTER DELETE ON images
WHEN NOT EXISTS (SELECT 1 FROM images WHERE config_key = OLD.config_key)
BEGIN
    DELETE FROM image_usage WHERE image_id = OLD.id;
    DELETE FROM blobs
    WHERE blob_key = OLD.config_key
        AND {IS_UNUSED};
END""",
    f"""\
CREATE TRIGGER a_target_goes_with_its_last_reference
AFTER DELETE ON ref_cache
WHEN NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = OLD.target_digest)
BEGIN
{FORGET_TARGET}""",
    f"""\
CREATE TRIGGER a_target_goes_when_its_last_reference_moves
AFTER UPDATE OF target_digest ON ref_cache
WHEN NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = OLD.target_digest)
BEGIN
{FORGET_TARGET}""",
    f"""\
CREATE TRIGGER a_manifest_goes_with_its_last_target
AFTER DELETE ON target_manifests
WHEN NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = OLD.manifest_key)
BEGIN
    DELETE FROM manifests WHERE manifest_key = OLD.manifest_key;
    DELETE FROM blobs
    WHERE blob_key = OLD.manifest_key
        AND {IS_UNUSED};
END""",
    f"""\
CREATE TRIGGER a_config_goes_with_its_last_manifest
AFTER DELETE ON manifests
BEGIN
    DELETE FROM blobs
    WHERE blob_key = OLD.config_key
        AND {IS_UNUSED};
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
    f"""\
CREATE TRIGGER a_layer_goes_with_its_last_manifest
AFTER DELETE ON manifest_layers
BEGIN
    UPDATE blobs SET layer_uses = layer_uses - 1 WHERE blob_key = OLD.layer_key;
    DELETE FROM blobs
    WHERE blob_key = OLD.layer_key
        AND {IS_UNUSED};
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
)

NEW_VIEWS = (
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


OLD_TABLES = (
    """\
CREATE TABLE images ( /* one row is an image on this host */
    image_key INTEGER NOT NULL /* this file's own number for the image */,
    id TEXT NOT NULL /* digest of the config document: sha256: and 64 hex */,
    chain_id TEXT NOT NULL /* identifies the ordered layers; empty without layers */,
    size INTEGER NOT NULL /* compressed bytes: index, manifest, config, layers */,
    PRIMARY KEY (image_key),
    CONSTRAINT images_id_is_unique UNIQUE (id),
    CONSTRAINT images_id_is_a_digest
        CHECK (substr(id, 1, 7) || length(id)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(id, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(id) = length(CAST(id AS BLOB)))
) STRICT""",
    """\
CREATE TABLE configs ( /* apart from images, so that lists need not read past it */
    image_key INTEGER NOT NULL,
    document BLOB NOT NULL /* the config, byte for byte; holds the environment */,
    PRIMARY KEY (image_key),
    CONSTRAINT configs_belong_to_an_image
        FOREIGN KEY(image_key) REFERENCES images (image_key) ON DELETE CASCADE
) STRICT""",
    """\
CREATE TABLE "references" ( /* one row is one name of one image */
    name TEXT NOT NULL /* as the source spells it */,
    image_key INTEGER NOT NULL,
    sort_rank INTEGER NOT NULL /* 0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other */,
    sort_name TEXT /* canonical spelling, where not the name; order by rank, this */,
    PRIMARY KEY (name),
    CONSTRAINT references_of_an_image UNIQUE (image_key, name),
    CONSTRAINT references_have_a_name
        CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 32768),
    CONSTRAINT references_have_a_sort_rank
        CHECK (sort_rank BETWEEN 0 AND 5),
    CONSTRAINT references_name_an_image
        FOREIGN KEY(image_key) REFERENCES images (image_key) ON DELETE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE pinned_refs ( /* one row is a reference that keeps its image from garbage collection */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    PRIMARY KEY (reference),
    CONSTRAINT pinned_refs_are_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE ref_cache ( /* one row is what the source last said of a reference, and when */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    target_digest TEXT NOT NULL /* of the manifest or index it points at */,
    platform TEXT NOT NULL /* for which the image was chosen beneath the target */,
    verified_at INTEGER NOT NULL /* microseconds since 1970, UTC */,
    PRIMARY KEY (reference),
    CONSTRAINT ref_cache_agrees_with_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT ref_cache_target_is_a_digest
        CHECK (substr(target_digest, 1, 7) || length(target_digest)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(target_digest, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(target_digest) = length(CAST(target_digest AS BLOB)))
) WITHOUT ROWID, STRICT""",
)

OLD_TRIGGERS_AND_VIEWS = (
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
WHEN EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name AND image_key <> NEW.image_key)
BEGIN
    SELECT RAISE(ABORT, 'references.name: names another image; UPDATE its image_key');
END""",
    """\
CREATE TRIGGER a_reference_takes_no_name_of_another
BEFORE UPDATE OF name ON "references" /* for the same reason: UPDATE OR REPLACE */
WHEN NEW.name <> OLD.name AND EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'references.name: is taken');
END""",
    """\
CREATE VIEW image_list AS /* one row an image; its references as a JSON array, in order */
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
        SELECT 1 FROM "references" JOIN pinned_refs ON pinned_refs.reference = "references".name
        WHERE "references".image_key = images.image_key
    ) AS pinned,
    images.chain_id
FROM images""",
    """\
CREATE VIEW reference_list AS /* one row a reference: its image, its target, its pin, its age */
SELECT
    "references".name AS reference,
    images.id AS image_id,
    ref_cache.target_digest,
    pinned_refs.reference IS NOT NULL AS pinned,
    strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = "references".name
LEFT JOIN pinned_refs ON pinned_refs.reference = "references".name""",
    """\
CREATE VIEW config_list AS /* one row an image: what its config says, but for Env and Labels */
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
    FROM images JOIN configs ON configs.image_key = images.image_key
)""",
    """\
CREATE TRIGGER reference_history_is_not_shortened
BEFORE DELETE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE VIEW history_list AS /* one row a change to a reference, the newest last */
SELECT
    sequence,
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time,
    reference,
    event,
    image_id,
    target_digest,
    pinned
FROM reference_history""",
)

REPLACED = ("ref_cache", "pinned_refs", "references", "images")

NEW_TABLES = (
    *(f"new_{table}" for table in REPLACED),
    "target_manifests",
    "manifest_layers",
    "manifests",
    "chains",
    "documents",
    "blobs",
    "containers",
    "image_usage",
    "content_look",
    "history_cuts",
    "platforms",
)

MOVE_ROWS_BACK = (
    """\
INSERT INTO images (image_key, id, chain_id, size)
SELECT image_key, id, chain_id, size FROM new_images WHERE platform_key = 0""",
    """\
INSERT INTO configs (image_key, document)
SELECT image_key, document FROM new_images JOIN documents ON blob_key = config_key WHERE platform_key = 0""",
    """\
INSERT INTO "references" (name, image_key, sort_rank, sort_name)
SELECT name, image_key, sort_rank, sort_name FROM new_references WHERE platform_key = 0""",
    """\
INSERT INTO pinned_refs (reference, image_key)
SELECT reference, image_key FROM new_pinned_refs JOIN new_images USING (image_key) WHERE platform_key = 0""",
    """\
INSERT INTO ref_cache (reference, image_key, target_digest, platform, verified_at)
SELECT reference, image_key, target_digest, platform, verified_at
FROM new_ref_cache JOIN new_images USING (image_key) JOIN platforms USING (platform_key)
WHERE platform_key = 0 AND platform IS NOT NULL""",
    """\
DELETE FROM reference_history
WHERE platform IS NOT NULL AND platform IS NOT (SELECT platform FROM platforms WHERE platform_key = 0)""",
)


def upgrade() -> None:
    for statement in (*PUT_ASIDE, *TABLES, *MOVE_ROWS, *TRIGGERS, *NEW_VIEWS):
        op.execute(statement)


def downgrade() -> None:
    """Keep the first platform's images and changes; what only this revision knows is lost."""
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for trigger in re.findall(r"CREATE TRIGGER (\w+)", "\n".join(TRIGGERS)):
        op.execute(f"DROP TRIGGER {trigger}")
    for table in REPLACED:
        op.execute(f'ALTER TABLE "{table}" RENAME TO new_{table}')
    for statement in (*OLD_TABLES, *MOVE_ROWS_BACK):
        op.execute(statement)
    for table in NEW_TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE reference_history DROP COLUMN platform")
    op.execute("ALTER TABLE reference_history DROP COLUMN size")
    for statement in OLD_TRIGGERS_AND_VIEWS:
        op.execute(statement)
