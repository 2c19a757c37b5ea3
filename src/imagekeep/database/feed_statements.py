"""The SQL statements of the change feed."""

FEED_ENDS = """
SELECT (SELECT min(sequence) FROM reference_history), (SELECT max(sequence) FROM reference_history)
"""

FEED_ROW = """
SELECT sequence, reference, image_id, target_digest, pinned, event, at
FROM reference_history WHERE sequence = ?
"""

_TARGET_FROM_THEN = """CASE WHEN h.target_digest IS NULL AND h.event IN ('pinned', 'unpinned') THEN (
        SELECT earlier.target_digest FROM reference_history AS earlier
        WHERE earlier.reference = h.reference AND earlier.sequence < h.sequence AND earlier.platform IS h.platform
            AND (earlier.target_digest IS NOT NULL OR earlier.event NOT IN ('pinned', 'unpinned'))
        ORDER BY earlier.sequence DESC LIMIT 1
    ) ELSE h.target_digest END"""
"""The target that a reference has from a row of the history on; a pin set in the store alone does not change it."""

FEED_AFTER = f"""
SELECT
    h.sequence, h.reference, h.image_id,
    {_TARGET_FROM_THEN},
    h.pinned, h.event, h.at, coalesce(h.size, images.size), h.target_digest,
    h.platform IS NULL OR h.platform = (SELECT platform FROM platforms WHERE platform_key = 0)
FROM reference_history AS h LEFT JOIN images ON images.platform_key = 0 AND images.id = h.image_id
WHERE h.sequence > ? ORDER BY h.sequence LIMIT ?
"""
"""The rows of the history after one of them: the target that the reference has from then on, the one of the row,
and whether the row is of the first platform."""

FEED_STATE = f"""
SELECT
    name, images.id, images.size,
    {_TARGET_FROM_THEN},
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
