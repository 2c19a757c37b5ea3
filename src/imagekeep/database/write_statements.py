"""Statements that write images, references, their history, and the platforms that a store keeps."""

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

SET_FIRST_PLATFORM = """
UPDATE platforms SET platform = :platform WHERE platform_key = 0 AND platform IS NULL
"""

ADD_PLATFORM = """
INSERT INTO platforms (platform) VALUES (:platform) ON CONFLICT DO NOTHING
"""

ADD_USAGE = """
INSERT INTO image_usage (image_id, first_seen, uses) VALUES (:image_id, :first_seen, 0) ON CONFLICT DO NOTHING
"""

DEFER_FOREIGN_KEYS = "PRAGMA defer_foreign_keys = ON"

REMOVE_PLATFORM = """
DELETE FROM platforms WHERE platform_key = :platform_key
"""

FORGET_FIRST_PLATFORM = "UPDATE platforms SET platform = NULL WHERE platform_key = 0"

REMOVE_UNNAMED_PLATFORM = "DELETE FROM platforms WHERE platform IS NULL AND platform_key <> 0"

RENUMBER_PLATFORM = "UPDATE platforms SET platform_key = ?2 WHERE platform_key = ?1"

RENUMBER_IMAGES = "UPDATE images SET platform_key = ?2 WHERE platform_key = ?1"

RENUMBER_REFERENCES = 'UPDATE "references" SET platform_key = ?2 WHERE platform_key = ?1'
