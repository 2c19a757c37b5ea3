"""Statements of `db check`; each selects the rows that break an invariant."""

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
