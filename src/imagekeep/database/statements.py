"""Statements in SQLite's SQL: of transactions and files, and those that read images, references and history.

The modules beside it have the statements of other subjects. Parameters of statements that write are named like the
columns. A test prepares each statement against the migrated schema, compares its parameters with the columns that
`imagekeep.schema` declares, and checks its query plan for needless scans.
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

SHRINK_MEMORY = "PRAGMA shrink_memory"

CHANGES_AFTER = """
SELECT sequence, reference, image_id FROM reference_history WHERE sequence > ? ORDER BY sequence LIMIT ?
"""

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

CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"

DATA_VERSION = "PRAGMA data_version"
"""A number that changes, on this connection, when another connection commits."""

VACUUM_INTO = "VACUUM INTO ?"
"""Writes a compact copy to an empty or missing file; not inside a transaction."""

PAGE_SIZE = "PRAGMA page_size"

ROLLBACK_MODE = "PRAGMA journal_mode = DELETE"

QUICK_CHECK = "PRAGMA quick_check(1)"
"""The first fault in the pages or the rows' types, or "ok"; reads the whole file, but no index twice."""

INTEGRITY_CHECK = "PRAGMA integrity_check"

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


def set_page_size(size: int) -> str:
    """Return the statement that sets the page size for VACUUM INTO; a pragma takes no parameters."""
    return f"PRAGMA page_size = {size:d}"
