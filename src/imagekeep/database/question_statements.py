"""The statements of the questions that commands ask: the history, and what was here at a time.

Lists from outside are bound as JSON, and a null parameter asks for everything. A test prepares each statement
against the migrated schema and checks its query plan.
"""

CHANGES = """
SELECT sequence, at, event, reference, image_id, target_digest, pinned, platform
FROM reference_history
WHERE sequence > :after
    AND (:since IS NULL OR at >= :since)
    AND (:until IS NULL OR at < :until)
    AND (:events IS NULL OR event IN (SELECT value FROM json_each(:events)))
    AND (:not_events IS NULL OR event NOT IN (SELECT value FROM json_each(:not_events)))
    AND (:patterns IS NULL OR matches_reference(:patterns, reference, target_digest))
    AND (:not_patterns IS NULL OR NOT matches_reference(:not_patterns, reference, target_digest))
ORDER BY sequence DESC
LIMIT :count
"""
"""The newest changes first, by the primary key; times are not ordered like it if the clock was set back."""

CHANGES_OF_REFERENCE = """
SELECT sequence, at, event, reference, image_id, target_digest, pinned, platform
FROM reference_history WHERE reference = ? ORDER BY sequence
"""

CHANGES_OF_IMAGE = """
SELECT sequence, at, event, reference, image_id, target_digest, pinned, platform
FROM reference_history AS change
WHERE image_id = ?1 OR (event = 'moved' AND ?1 = (
    SELECT image_id FROM reference_history AS earlier
    WHERE earlier.reference = change.reference
        AND earlier.platform IS change.platform
        AND earlier.sequence < change.sequence
    ORDER BY sequence DESC LIMIT 1
))
ORDER BY sequence
"""
"""What happened to the references while they named an image, and what replaced it; reads the whole history, which
has no index by image: few ask, and every change would pay for it."""

PAST_IMAGES_IN_RANGE = """
SELECT DISTINCT image_id FROM reference_history WHERE image_id >= ? AND image_id < ? ORDER BY image_id
"""
"""The ids of a half-open range that the history knows, for a truncated id that the store does not."""

PAST_REFERENCES = """
SELECT DISTINCT reference FROM reference_history
"""

REFERENCES_AS_OF = """
SELECT reference, image_id, target_digest, pinned, at, size, max(sequence)
FROM reference_history
WHERE at <= :at AND coalesce(platform, (SELECT platform FROM platforms WHERE platform_key = 0))
    IS coalesce(:platform, (SELECT platform FROM platforms WHERE platform_key = 0))
GROUP BY reference
HAVING event <> 'vanished'
"""
"""What each reference named at a time, for a platform, by default the store's first, whose rows may not name it.

The columns are those of the row with the highest sequence."""

FIRST_CHANGE = """
SELECT max(
    (SELECT at FROM reference_history ORDER BY sequence LIMIT 1),
    coalesce((SELECT max(older_than) FROM history_cuts), 0)
)
"""
"""From when the history is known: since its first row, or since the last time that old rows were removed."""

_CUTTABLE = """
FROM reference_history
WHERE at < :older_than
    AND sequence <> (SELECT max(sequence) FROM reference_history)
    AND (
        sequence NOT IN (
            SELECT max(sequence) FROM reference_history WHERE at < :older_than GROUP BY reference, platform
        )
        OR (event = 'vanished' AND NOT :keep_last)
    )
"""

COUNT_CUTTABLE = f"SELECT count(*) {_CUTTABLE}"
"""How many rows a cut removes. What each reference was at the time of the cut stays, so that every later time can
still be asked about; the last row of all stays, so that its sequence is not given again."""

BEGIN_CUT = """
INSERT INTO history_cuts (older_than, at) VALUES (:older_than, :at)
"""

CUT_HISTORY = f"DELETE {_CUTTABLE}"

END_CUT = """
UPDATE history_cuts SET removed = :removed WHERE removed IS NULL
"""

CUTS = """
SELECT older_than, removed, at FROM history_cuts WHERE removed IS NOT NULL ORDER BY cut_key
"""

IMAGE_SIZES = """
SELECT id, size FROM images
"""

NAMES_OF_IMAGE = """
SELECT name, min(target_digest), max(verified_at), max(pinned_refs.reference IS NOT NULL)
FROM "references"
LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
WHERE "references".image_key IN (
    SELECT image_key FROM images WHERE platform_key IN (SELECT platform_key FROM platforms) AND id = ?
)
GROUP BY name
ORDER BY min(sort_rank), coalesce(min(sort_name), name), name
"""
"""The names of an image for all platforms."""

CONTAINERS_OF_IMAGE = """
SELECT container_id, reference, running, created_at FROM containers WHERE image_id = ? ORDER BY container_id
"""

USAGE_OF_IMAGE = """
SELECT first_seen, last_used, uses FROM image_usage WHERE image_id = ?
"""

PLATFORM_KEY_OF_IMAGE = """
SELECT min(platform_key) FROM images WHERE platform_key IN (SELECT platform_key FROM platforms) AND id = ?
"""
"""The first platform for which the store has an image."""

LAYERS_OF_MANIFEST = """
SELECT layer.digest, layer.size, layer.present
FROM blobs AS manifest
JOIN manifest_layers ON manifest_layers.manifest_key = manifest.blob_key
JOIN blobs AS layer ON layer.blob_key = layer_key
WHERE manifest.digest = ?
ORDER BY position
"""

SHARED_LAYERS = """
SELECT digest, count(DISTINCT id)
FROM ref_cache
JOIN images USING (image_key)
JOIN manifest_layers USING (manifest_key)
JOIN blobs ON blob_key = layer_key
GROUP BY layer_key
HAVING count(DISTINCT id) > 1
"""
"""The layers of several images and of how many; reads all, because layers have no index to the images."""
