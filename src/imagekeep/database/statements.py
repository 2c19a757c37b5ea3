"""Every statement that reads or writes rows, in SQLite's SQL.

Parameters of statements that write are named like the columns. A test prepares each statement against the migrated
schema, compares its parameters with the columns that `imagekeep.schema` declares, and checks its query plan for
needless scans.
"""

BEGIN = "BEGIN"
"""Deferred: a reader takes its snapshot with its first SELECT, and locks nobody out."""

BEGIN_IMMEDIATE = "BEGIN IMMEDIATE"

COMMIT = "COMMIT"

ROLLBACK = "ROLLBACK"

APPLICATION_ID = "PRAGMA application_id"

REVISION = """
SELECT substr(version_num, 1, 64) FROM alembic_version LIMIT 1
"""

RESOLVE = """
SELECT id FROM "references" JOIN images USING (image_key) WHERE "references".platform_key = ? AND name = ?
"""

RESOLVE_FOR = """
SELECT id FROM "references" JOIN images USING (image_key)
WHERE "references".platform_key = (SELECT platform_key FROM platforms WHERE platform = ?) AND name = ?
"""
"""In one statement, since a second one takes as long as the look-up."""

REFERENCE_STATE = """
SELECT images.id, pinned_refs.reference IS NOT NULL, ref_cache.target_digest, coalesce(
    blobs.digest,
    (
        SELECT '' FROM target_manifests
        WHERE target_key = (SELECT blob_key FROM blobs AS targets WHERE targets.digest = target_digest) LIMIT 1
    )
)
FROM "references"
JOIN images USING (image_key)
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
LEFT JOIN blobs ON blob_key = manifest_key
WHERE "references".platform_key = ? AND name = ?
"""
"""The image id, pin, target and manifest of one reference for a platform. The manifest is null if the target was
never read, and empty if it is broken though containerd accepts it."""

IDS_IN_RANGES = """
SELECT id FROM (
    SELECT id FROM images WHERE platform_key = ?1 AND id >= ?2 AND id < ?3 ORDER BY id LIMIT 2
)
UNION ALL
SELECT id FROM (
    SELECT id FROM images WHERE platform_key = ?1 AND id >= ?4 AND id < ?5 ORDER BY id LIMIT 2
)
UNION ALL
SELECT id FROM (
    SELECT id FROM images WHERE platform_key = ?1 AND id >= ?6 AND id < ?7 ORDER BY id LIMIT 2
)
"""
"""The first two ids of each of three half-open ranges: one for each algorithm that an id may have."""

IDS_IN_RANGE = """
SELECT id FROM images WHERE platform_key = ? AND id >= ? AND id < ? ORDER BY id LIMIT ?
"""
"""The first ids of a half-open range."""

COUNT_IN_RANGE = """
SELECT count(*) FROM images WHERE platform_key = ? AND id >= ? AND id < ?
"""
"""The number of ids in a half-open range."""

IMAGE = """
SELECT image_key, id, chain_id, size, CASE WHEN length(document) <= 8388608 THEN document END
FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = ? AND id = ?
"""
"""An image with its config; null for one larger than a document may be, which could fill the memory: only a hostile
file has one."""

ONLY_IMAGE = """
SELECT image_key, id, chain_id, size, CASE WHEN length(document) <= 8388608 THEN document END
FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = ?1 AND id >= ?2 AND id < ?3
UNION ALL
SELECT image_key, id, chain_id, size, CASE WHEN length(document) <= 8388608 THEN document END
FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = ?1 AND id >= 'sha384:'
LIMIT 2
"""
"""At most two of the images with an id in a range of sha256, or of a longer algorithm, which hardly any store has.
A single row is the only image that a truncated id can stand for."""

REFERENCES_OF_IMAGE = """
SELECT name, pinned_refs.reference IS NOT NULL
FROM "references"
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
WHERE "references".image_key = ?
ORDER BY sort_rank, coalesce(sort_name, name), name
"""
"""The references of one image, in the order of distribution/reference's Sort, and whether each pins it."""

IMAGES_BY_ID = """
SELECT image_key, id, chain_id, size, CASE WHEN length(document) <= 8388608 THEN document END
FROM images JOIN documents ON blob_key = config_key
WHERE platform_key = ? AND id > ? ORDER BY id
"""

IMAGES = """
SELECT image_key, id, chain_id, size, CASE WHEN length(document) <= 8388608 THEN document END
FROM images JOIN documents ON blob_key = config_key
WHERE +platform_key = ?
"""
"""A scan: the index on the platform, which most images have in common, would look up each row by itself."""

IMAGES_WITHOUT_CONFIG = """
SELECT image_key, id, chain_id, size FROM images WHERE +platform_key = ?
"""

REFERENCES = """
SELECT image_key, sort_rank, coalesce(sort_name, name), name
FROM "references" WHERE platform_key = ?
"""
"""Every reference with its sort key, in the order of the table."""

SORT_KEYS = """
SELECT sort_rank, coalesce(sort_name, name), name FROM "references"
"""
"""The sort key of every reference for any platform."""

NAMES = """
SELECT name FROM "references" WHERE platform_key = ?
"""

PINNED_IMAGES = """
SELECT DISTINCT image_key FROM pinned_refs
"""

IS_PINNED = """
SELECT 1 FROM images JOIN pinned_refs USING (image_key) WHERE platform_key = ? AND id = ? AND reference = ?
"""

REFERENCE_STATES = """
SELECT name, images.id, pinned_refs.reference IS NOT NULL, ref_cache.target_digest, coalesce(
    blobs.digest,
    (
        SELECT '' FROM target_manifests
        WHERE target_key = (SELECT blob_key FROM blobs AS targets WHERE targets.digest = target_digest) LIMIT 1
    )
)
FROM "references"
JOIN images USING (image_key)
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
LEFT JOIN blobs ON blob_key = manifest_key
WHERE "references".platform_key = ?
"""
"""The state of every reference for a platform."""

HISTORY_OF_REFERENCE = """
SELECT at, event, image_id, target_digest, pinned
FROM reference_history WHERE reference = ? ORDER BY sequence
"""

FEED_ENDS = """
SELECT (SELECT min(sequence) FROM reference_history), (SELECT max(sequence) FROM reference_history)
"""

CHANGES_AFTER = """
SELECT sequence, reference, image_id FROM reference_history WHERE sequence > ? ORDER BY sequence LIMIT ?
"""

FEED_ROW = """
SELECT sequence, reference, image_id, target_digest, pinned, event, at
FROM reference_history WHERE sequence = ?
"""

FEED_AFTER = """
SELECT
    h.sequence, h.reference, h.image_id,
    CASE WHEN h.target_digest IS NULL AND h.event IN ('pinned', 'unpinned') THEN (
        SELECT earlier.target_digest FROM reference_history AS earlier
        WHERE earlier.reference = h.reference AND earlier.sequence < h.sequence AND earlier.platform IS h.platform
            AND (earlier.target_digest IS NOT NULL OR earlier.event NOT IN ('pinned', 'unpinned'))
        ORDER BY earlier.sequence DESC LIMIT 1
    ) ELSE h.target_digest END,
    h.pinned, h.event, h.at, coalesce(h.size, images.size), h.target_digest,
    h.platform IS NULL OR h.platform = (SELECT platform FROM platforms WHERE platform_key = 0)
FROM reference_history AS h LEFT JOIN images ON images.platform_key = 0 AND images.id = h.image_id
WHERE h.sequence > ? ORDER BY h.sequence LIMIT ?
"""
"""The rows of the history after one of them: the target that the reference has from then on, the one of the row,
and whether the row is of the first platform. A pin that is set in the store alone leaves the target as it was."""

FEED_STATE = """
SELECT
    name, images.id, images.size,
    CASE WHEN h.target_digest IS NULL AND h.event IN ('pinned', 'unpinned') THEN (
        SELECT earlier.target_digest FROM reference_history AS earlier
        WHERE earlier.reference = h.reference AND earlier.sequence < h.sequence AND earlier.platform IS h.platform
            AND (earlier.target_digest IS NOT NULL OR earlier.event NOT IN ('pinned', 'unpinned'))
        ORDER BY earlier.sequence DESC LIMIT 1
    ) ELSE h.target_digest END,
    pinned_refs.reference IS NOT NULL
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = images.image_key
LEFT JOIN reference_history AS h ON h.sequence = (
    SELECT max(sequence) FROM reference_history AS newest WHERE newest.reference = name AND (
        newest.platform IS NULL OR newest.platform = (SELECT platform FROM platforms WHERE platform_key = 0)
    )
)
WHERE "references".platform_key = 0
"""
"""Every reference of the first platform as the rows of its history, one after the other, leave it."""

COUNTS = """
SELECT
    (SELECT count(*) FROM images),
    (SELECT count(*) FROM "references"),
    (SELECT count(*) FROM pinned_refs),
    (SELECT min(verified_at) FROM ref_cache),
    (SELECT max(verified_at) FROM ref_cache)
"""
"""For all platforms; of a store of any revision."""

SCHEMA_OBJECTS = """
SELECT substr(type, 1, ?1), substr(name, 1, ?1), substr(tbl_name, 1, ?1), substr(sql, 1, ?1)
FROM sqlite_schema LIMIT ?2
"""

IMAGES_WITHOUT_REFERENCE = """
SELECT id FROM images WHERE NOT EXISTS (
    SELECT 1 FROM "references" WHERE "references".image_key = images.image_key
)
"""

IMAGES_WITH_ANY_CONFIG = """
SELECT id, chain_id, document FROM images LEFT JOIN documents ON blob_key = config_key
"""

DOCUMENTS_WITHOUT_BLOB = """
SELECT 'blob_key ' || blob_key FROM documents WHERE NOT EXISTS (
    SELECT 1 FROM blobs WHERE blobs.blob_key = documents.blob_key
)
"""

REFERENCES_WITHOUT_IMAGE = """
SELECT name FROM "references" WHERE NOT EXISTS (
    SELECT 1 FROM images WHERE images.image_key = "references".image_key
)
"""

PINS_WITHOUT_REFERENCE = """
SELECT reference FROM pinned_refs WHERE NOT EXISTS (
    SELECT 1 FROM "references" WHERE name = reference AND "references".image_key = pinned_refs.image_key
)
"""

CACHE_WITHOUT_REFERENCE = """
SELECT reference FROM ref_cache WHERE NOT EXISTS (
    SELECT 1 FROM "references" WHERE name = reference AND "references".image_key = ref_cache.image_key
)
"""

REFERENCES_UNLIKE_HISTORY = """
SELECT name
FROM "references"
LEFT JOIN images USING (image_key)
LEFT JOIN platforms ON platforms.platform_key = "references".platform_key
LEFT JOIN reference_history ON sequence = (
    SELECT max(sequence) FROM reference_history
    WHERE reference = name AND (
        reference_history.platform = platforms.platform
        OR (reference_history.platform IS NULL AND "references".platform_key = 0)
    )
)
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
WHERE image_id IS NOT id OR event = 'vanished' OR pinned <> (pinned_refs.reference IS NOT NULL)
"""
"""The references whose last change in the history has another image or pin, or deletes them."""

INCOMPLETE_REFERENCES = """
SELECT reference, substr(error, 1, 4096), since, tried_at, tries FROM incomplete_refs
WHERE length(CAST(reference AS BLOB)) <= 32768
ORDER BY reference LIMIT 10000
"""
"""The references that could not be read, limited: a forged store may hold any number of rows, of any length."""

WATCHER = """
SELECT
    process_id, substr(source, 1, 4096), started_at, connected_at, last_event_at, last_reconcile_at,
    events, reconciles, changes, errors, substr(last_error, 1, 4096), stopped_at
FROM watcher LIMIT 1
"""

IMAGE_FILESYSTEM = "SELECT mountpoint, used_bytes, inodes_used, at FROM image_filesystem"

CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"

IDENTITY = """
SELECT substr(store_id, 1, 64), substr(source, 1, 8192), substr(namespace, 1, 8192) FROM identity LIMIT 2
"""

FOLLOW_SOURCE = """
INSERT INTO identity (identity_key, store_id, source, namespace)
VALUES (1, lower(hex(randomblob(16))), :source, :namespace)
ON CONFLICT (identity_key) DO UPDATE SET source = excluded.source, namespace = excluded.namespace
"""
"""Keeps the store id; creates one only if the row was deleted."""

DATA_VERSION = "PRAGMA data_version"
"""A number that changes, on this connection, when another connection commits."""

VACUUM_INTO = "VACUUM INTO ?"
"""Writes a compact copy to an empty or missing file; not inside a transaction."""

PAGE_SIZE = "PRAGMA page_size"

ROLLBACK_MODE = "PRAGMA journal_mode = DELETE"

QUICK_CHECK = "PRAGMA quick_check(1)"
"""The first fault in the pages or the rows' types, or "ok"; reads the whole file, but no index twice."""

INTEGRITY_CHECK = "PRAGMA integrity_check"

RENEW_STORE_ID = """
INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))
ON CONFLICT (identity_key) DO UPDATE SET store_id = excluded.store_id
"""
"""Gives a copy that becomes a store an id of its own."""

ADD_IMAGE = """
INSERT INTO images (id, chain_id, size, platform_key, config_key)
VALUES (:id, :chain_id, :size, :platform_key, (SELECT blob_key FROM blobs WHERE digest = :id))
ON CONFLICT DO NOTHING
"""
"""A known image keeps its first size, chain id and config (containerd: store.add)."""

ADD_BLOB = """
INSERT INTO blobs (digest, media_type, size, present) VALUES (:digest, :media_type, :size, :present)
ON CONFLICT (digest) DO UPDATE SET
    media_type = coalesce(blobs.media_type, excluded.media_type),
    size = coalesce(blobs.size, excluded.size),
    present = coalesce(excluded.present, blobs.present)
WHERE (blobs.media_type IS NULL AND excluded.media_type IS NOT NULL)
    OR (blobs.size IS NULL AND excluded.size IS NOT NULL)
    OR blobs.present IS NOT coalesce(excluded.present, blobs.present)
"""
"""What the first descriptor says stays; whether the source has the blob is as observed last."""

ADD_DOCUMENT = """
INSERT INTO documents (blob_key, document)
VALUES ((SELECT blob_key FROM blobs WHERE digest = :digest), :document)
ON CONFLICT DO NOTHING
"""

ADD_REFERENCE = """
INSERT INTO "references" (name, image_key, sort_rank, sort_name, platform_key)
VALUES (
    :name, (SELECT image_key FROM images WHERE platform_key = :platform_key AND id = :id),
    :sort_rank, :sort_name, :platform_key
)
"""

MOVE_REFERENCE = """
UPDATE "references"
SET image_key = (SELECT image_key FROM images WHERE platform_key = :platform_key AND id = :id)
WHERE platform_key = :platform_key AND name = :name
"""

REMOVE_REFERENCE = """
DELETE FROM "references" WHERE platform_key = :platform_key AND name = :name
"""

ADD_PIN = """
INSERT INTO pinned_refs (reference, image_key)
SELECT name, image_key FROM "references" WHERE platform_key = :platform_key AND name = :name
ON CONFLICT DO NOTHING
"""

REMOVE_PIN = """
DELETE FROM pinned_refs WHERE reference = :reference AND image_key = (
    SELECT image_key FROM "references" WHERE platform_key = :platform_key AND name = :reference
)
"""

VERIFY = """
INSERT INTO ref_cache (reference, image_key, target_digest, manifest_key, verified_at)
VALUES (
    :reference, (SELECT image_key FROM "references" WHERE platform_key = :platform_key AND name = :reference),
    :target_digest,
    (SELECT manifest_key FROM blobs JOIN manifests ON manifest_key = blob_key WHERE digest = :manifest_digest),
    :verified_at
)
ON CONFLICT (reference, image_key) DO UPDATE
SET target_digest = excluded.target_digest, manifest_key = excluded.manifest_key, verified_at = excluded.verified_at
"""

VERIFY_AGAIN = """
UPDATE ref_cache SET verified_at = :verified_at WHERE reference = :reference AND image_key = (
    SELECT image_key FROM "references" WHERE platform_key = :platform_key AND name = :reference
)
"""

FORGET_TARGET = """
DELETE FROM ref_cache WHERE reference = :reference AND image_key = (
    SELECT image_key FROM "references" WHERE platform_key = :platform_key AND name = :reference
)
"""

RECORD_CHANGE = """
INSERT INTO reference_history (reference, image_id, target_digest, pinned, event, at, size, platform)
VALUES (
    :reference, :image_id, :target_digest, :pinned, :event, :at,
    (SELECT size FROM images WHERE platform_key = :platform_key AND id = :image_id), :platform
)
"""

ANY_INCOMPLETE = """
SELECT EXISTS (SELECT 1 FROM incomplete_refs)
"""

REMOVE_INCOMPLETE = """
DELETE FROM incomplete_refs WHERE reference = :reference
"""

RECORD_INCOMPLETE = """
INSERT INTO incomplete_refs (reference, error, since, tried_at, tries)
VALUES (:reference, :error, :since, :tried_at, :tries)
ON CONFLICT (reference) DO UPDATE
SET error = excluded.error, tried_at = excluded.tried_at, tries = tries + 1
"""

RECORD_WATCHER = """
INSERT OR REPLACE INTO watcher (
    watcher_key, process_id, source, started_at, connected_at, last_event_at, last_reconcile_at,
    events, reconciles, changes, errors, last_error, stopped_at
)
VALUES (
    :watcher_key, :process_id, :source, :started_at, :connected_at, :last_event_at, :last_reconcile_at,
    :events, :reconciles, :changes, :errors, :last_error, :stopped_at
)
"""

RECORD_IMAGE_FILESYSTEM = """
INSERT OR REPLACE INTO image_filesystem (filesystem_key, mountpoint, used_bytes, inodes_used, at)
VALUES (:filesystem_key, :mountpoint, :used_bytes, :inodes_used, :at)
"""

PLATFORMS = "SELECT platform_key, platform FROM platforms ORDER BY platform_key"

READABLE_PLATFORMS = """
SELECT targets.digest, platform, target_key = manifest_key
FROM json_each(?)
JOIN blobs AS targets ON targets.digest = value
JOIN target_manifests ON target_key = targets.blob_key
JOIN manifests USING (manifest_key)
WHERE NOT is_attestation
"""
"""The platforms for which there is a manifest beneath these targets, and whether the target is that manifest."""

PLATFORM_KEY = "SELECT platform_key FROM platforms WHERE platform = ?"

SET_FIRST_PLATFORM = """
UPDATE platforms SET platform = :platform WHERE platform_key = 0 AND platform IS NULL
"""

ADD_PLATFORM = """
INSERT INTO platforms (platform) VALUES (:platform) ON CONFLICT DO NOTHING
"""

ADD_USAGE = """
INSERT INTO image_usage (image_id, first_seen, uses) VALUES (:image_id, :first_seen, 0) ON CONFLICT DO NOTHING
"""

BLOBS_BY_DIGEST = """
SELECT
    digest, blobs.blob_key, media_type, size, present,
    documents.blob_key IS NOT NULL, manifests.manifest_key IS NOT NULL
FROM json_each(?)
CROSS JOIN blobs ON digest = value
LEFT JOIN documents ON documents.blob_key = blobs.blob_key
LEFT JOIN manifests ON manifest_key = blobs.blob_key
"""
"""What the store knows of the blobs in a JSON array of digests."""

LAST_BLOB_KEYS = """
SELECT
    coalesce((SELECT max(blob_key) FROM blobs WHERE blob_key < 1073741824), 0),
    coalesce((SELECT max(blob_key) FROM blobs WHERE blob_key >= 1073741824), 1073741823)
"""

ADD_NEW_BLOB = """
INSERT INTO blobs (blob_key, digest, media_type, size, present)
VALUES (:blob_key, :digest, :media_type, :size, :present)
"""

LEARN_BLOB = """
UPDATE blobs
SET
    media_type = coalesce(media_type, :media_type),
    size = coalesce(size, :size),
    present = coalesce(:present, present)
WHERE blob_key = :blob_key
"""
"""What the first descriptor says stays; whether the source has the blob is as observed last."""

ADD_DOCUMENT_OF = """
INSERT INTO documents (blob_key, document) VALUES (:blob_key, :document)
"""

ADD_MANIFEST = """
INSERT INTO manifests (manifest_key, config_key, compressed_size)
VALUES (:manifest_key, :config_key, :compressed_size)
ON CONFLICT DO NOTHING
"""

CHAINS_BY_ID = """
SELECT chain_id, chain_key FROM json_each(?) CROSS JOIN chains ON chain_id = value
"""

LAST_CHAIN_KEY = "SELECT coalesce(max(chain_key), 0) FROM chains"

ADD_CHAIN = """
INSERT INTO chains (chain_key, chain_id, diff_id) VALUES (:chain_key, :chain_id, :diff_id)
"""

ADD_MANIFEST_LAYER = """
INSERT INTO manifest_layers (manifest_key, position, layer_key, chain_key)
VALUES (:manifest_key, :position, :layer_key, :chain_key)
ON CONFLICT DO UPDATE SET chain_key = excluded.chain_key WHERE manifest_layers.chain_key IS NULL
"""
"""The diff ids are known once the config has arrived."""

COUNT_ENTRIES = """
SELECT count(*), count(platform) FROM target_manifests WHERE target_key = ?
"""

ADD_TARGET_MANIFEST = """
INSERT INTO target_manifests (target_key, position, manifest_key, platform, is_attestation)
VALUES (:target_key, :position, :manifest_key, :platform, :is_attestation)
ON CONFLICT DO UPDATE
SET manifest_key = excluded.manifest_key, platform = excluded.platform, is_attestation = excluded.is_attestation
"""

HAS_REFERENCE = """
SELECT 1 FROM platforms CROSS JOIN "references" USING (platform_key) WHERE name = ? LIMIT 1
"""
"""Whether the store has a reference, for any platform."""

PLATFORMS_OF_REFERENCE = """
WITH target (target_key) AS (
    SELECT blob_key FROM ref_cache JOIN blobs ON digest = target_digest
    WHERE reference = ?1 ORDER BY verified_at DESC, image_key LIMIT 1
),
entries (position, platform, manifest_key) AS MATERIALIZED (
    SELECT min(position), platform, manifest_key
    FROM target CROSS JOIN target_manifests USING (target_key) CROSS JOIN blobs ON blob_key = manifest_key
    WHERE NOT is_attestation AND media_type IN (
        'application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'
    )
    GROUP BY platform, manifest_key
),
parts (manifest_key, blob_key) AS (
    SELECT manifest_key, manifest_key FROM entries
    UNION SELECT manifest_key, config_key FROM entries JOIN manifests USING (manifest_key)
    UNION SELECT manifest_key, layer_key
    FROM (SELECT DISTINCT manifest_key FROM entries) CROSS JOIN manifest_layers USING (manifest_key)
),
content (manifest_key, absent, absent_bytes, unknown) AS MATERIALIZED (
    SELECT
        manifest_key, count(*) FILTER (WHERE present = 0), coalesce(sum(size) FILTER (WHERE present = 0), 0),
        count(*) FILTER (WHERE present IS NULL)
    FROM parts CROSS JOIN blobs USING (blob_key) GROUP BY manifest_key
)
SELECT
    platform, blobs.digest, configs.digest, compressed_size,
    CASE
        WHEN blobs.present = 0 THEN 'absent'
        WHEN manifests.manifest_key IS NULL THEN CASE
            WHEN EXISTS (SELECT 1 FROM documents WHERE documents.blob_key = entries.manifest_key) THEN 'partial'
        END
        WHEN absent > 0 OR compressed_size IS NULL THEN 'partial'
        WHEN unknown = 0 THEN 'complete'
    END,
    EXISTS (
        SELECT 1 FROM ref_cache WHERE reference = ?1 AND ref_cache.manifest_key = entries.manifest_key
    ),
    absent, absent_bytes
FROM entries
CROSS JOIN content USING (manifest_key)
CROSS JOIN blobs ON blobs.blob_key = entries.manifest_key
LEFT JOIN manifests USING (manifest_key)
LEFT JOIN blobs AS configs ON configs.blob_key = config_key
ORDER BY position
"""
"""Each platform of a reference's target, as the source last reported it, in the order of its index."""

DEFER_FOREIGN_KEYS = "PRAGMA defer_foreign_keys = ON"

REMOVE_PLATFORM = """
DELETE FROM platforms WHERE platform_key = :platform_key
"""

FORGET_FIRST_PLATFORM = "UPDATE platforms SET platform = NULL WHERE platform_key = 0"

REMOVE_UNNAMED_PLATFORM = "DELETE FROM platforms WHERE platform IS NULL AND platform_key <> 0"

RENUMBER_PLATFORM = "UPDATE platforms SET platform_key = ?2 WHERE platform_key = ?1"

RENUMBER_IMAGES = "UPDATE images SET platform_key = ?2 WHERE platform_key = ?1"

RENUMBER_REFERENCES = 'UPDATE "references" SET platform_key = ?2 WHERE platform_key = ?1'


BLOB_PRESENCE = """
SELECT digest, present FROM blobs
"""

ANY_UNKNOWN_PRESENCE = """
SELECT EXISTS (SELECT 1 FROM blobs WHERE present IS NULL)
"""

SET_PRESENCE = """
UPDATE blobs SET present = :present WHERE digest = :digest
"""

REFERENCES_LACKING_DOCUMENT = """
WITH wanted (blob_key) AS (
    SELECT blob_key FROM blobs
    WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM documents WHERE documents.blob_key = blobs.blob_key)
)
SELECT DISTINCT reference
FROM target_manifests
JOIN blobs ON blobs.blob_key = target_key
JOIN ref_cache ON target_digest = digest
WHERE target_manifests.manifest_key IN (
    SELECT blob_key FROM wanted
    UNION ALL SELECT manifests.manifest_key FROM manifests WHERE config_key IN (SELECT blob_key FROM wanted)
)
"""
"""The references beneath which a blob is a document that could not be read."""

CHAINS_OF_REFERENCE = """
WITH manifest (blob_key) AS (
    SELECT target_manifests.manifest_key
    FROM ref_cache JOIN blobs ON digest = target_digest JOIN target_manifests ON target_key = blob_key
    WHERE reference = ?
)
SELECT chain_id FROM chains
WHERE unpacked IS NOT 1 AND chain_key IN (
    SELECT chain_key FROM manifest_layers WHERE manifest_key IN (SELECT blob_key FROM manifest)
)
"""
"""The layers beneath a reference that were not known to be unpacked."""

CHAINS = """
SELECT chain_id, unpacked, unpacked_bytes FROM chains
"""

SET_UNPACKED = """
UPDATE chains SET unpacked = :unpacked, unpacked_bytes = :unpacked_bytes WHERE chain_id = :chain_id
"""

CONTENT_LOOK = """
SELECT blobs_at, snapshots_at, containers_at, substr(snapshotter, 1, 256) FROM content_look LIMIT 1
"""

RECORD_LOOK = """
INSERT OR REPLACE INTO content_look (look_key, blobs_at, snapshots_at, containers_at, snapshotter)
VALUES (:look_key, :blobs_at, :snapshots_at, :containers_at, :snapshotter)
"""

CONTAINERS = """
SELECT container_id, reference, substr(image_id, 1, 256), created_at, running FROM containers
WHERE length(CAST(container_id AS BLOB)) <= 76 AND length(CAST(reference AS BLOB)) <= 32768
ORDER BY container_id LIMIT 10000
"""
"""The containers, limited: a forged store may hold any number of rows, of any length."""

CONTAINERS_OF_IMAGE = """
SELECT container_id, reference, substr(image_id, 1, 256), created_at, running FROM containers
WHERE image_id = ? AND length(CAST(container_id AS BLOB)) <= 76 AND length(CAST(reference AS BLOB)) <= 32768
ORDER BY container_id LIMIT 10000
"""

RECORD_CONTAINER = """
INSERT INTO containers (container_id, reference, image_id, created_at, running)
VALUES (:container_id, :reference, :image_id, :created_at, :running)
ON CONFLICT (container_id) DO UPDATE SET
    reference = excluded.reference, image_id = excluded.image_id,
    created_at = excluded.created_at, running = excluded.running
"""

REMOVE_CONTAINER = """
DELETE FROM containers WHERE container_id = :container_id
"""

REMOVE_CONTAINERS = """
DELETE FROM containers
"""

IMAGE_OF_NAME = """
SELECT id FROM "references" JOIN images USING (image_key)
WHERE name = ? AND "references".platform_key IN (SELECT platform_key FROM platforms)
ORDER BY "references".platform_key LIMIT 1
"""
"""The image of a reference for the first platform that has it."""

IMAGES_BY_CHAIN = """
SELECT chain_id, id FROM images WHERE chain_id <> ''
"""

USAGE = """
SELECT first_seen, last_used, uses FROM image_usage WHERE image_id = ?
"""

RECORD_USE = """
UPDATE image_usage
SET last_used = max(coalesce(last_used, 0), :last_used), uses = min(uses, 9223372036854775806) + 1
WHERE image_id = :image_id
"""

RECORD_LAST_USE = """
UPDATE image_usage SET last_used = max(coalesce(last_used, 0), :last_used) WHERE image_id = :image_id
"""
"""A use that was counted before."""


def set_page_size(size: int) -> str:
    """Return the statement that sets the page size for VACUUM INTO; a pragma takes no parameters."""
    return f"PRAGMA page_size = {size:d}"
