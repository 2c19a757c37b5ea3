"""Statements about what the source has, and who uses its images."""

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
