"""The statements that check the tables of content, in SQLite's SQL."""

TARGETS = """
SELECT digest, media_type FROM blobs
WHERE media_type IS NOT NULL AND EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
"""
"""The targets that were read."""

HAS_DOCUMENT = """
SELECT 1 FROM blobs CROSS JOIN documents USING (blob_key) WHERE digest = ?
"""

DOCUMENT = """
SELECT CASE WHEN length(document) <= 8388608 THEN document END
FROM blobs CROSS JOIN documents USING (blob_key) WHERE digest = ?
"""
"""A document; null if it is larger than a document may be."""

ENTRIES_OF_TARGET = """
SELECT manifest.digest, target_manifests.platform, is_attestation
FROM blobs AS target
CROSS JOIN target_manifests ON target_key = target.blob_key
LEFT JOIN blobs AS manifest ON manifest.blob_key = manifest_key
WHERE target.digest = ? ORDER BY position
"""

MANIFEST = """
SELECT config.digest, compressed_size
FROM blobs
CROSS JOIN manifests ON manifest_key = blobs.blob_key
LEFT JOIN blobs AS config ON config.blob_key = config_key
WHERE blobs.digest = ?
"""

LAYERS_OF_MANIFEST = """
SELECT position, layer.digest, chain_id, diff_id
FROM blobs
CROSS JOIN manifest_layers ON manifest_key = blobs.blob_key
LEFT JOIN blobs AS layer ON layer.blob_key = layer_key
LEFT JOIN chains USING (chain_key)
WHERE blobs.digest = ? ORDER BY position
"""

TARGETS_WITHOUT_REFERENCE = """
SELECT DISTINCT coalesce(digest, 'target_key ' || target_key)
FROM target_manifests LEFT JOIN blobs ON blob_key = target_key
WHERE NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
"""

MANIFESTS_WITHOUT_TARGET = """
SELECT coalesce(digest, 'manifest_key ' || manifest_key)
FROM manifests LEFT JOIN blobs ON blob_key = manifest_key
WHERE NOT EXISTS (SELECT 1 FROM target_manifests WHERE target_manifests.manifest_key = manifests.manifest_key)
"""

MANIFESTS_WITHOUT_DOCUMENT = """
SELECT coalesce(digest, 'manifest_key ' || manifest_key)
FROM manifests LEFT JOIN blobs ON blob_key = manifest_key
WHERE NOT EXISTS (SELECT 1 FROM documents WHERE documents.blob_key = manifest_key)
"""

LAYERS_WITHOUT_BLOB = """
SELECT 'manifest_key ' || manifest_key || ' position ' || position
FROM manifest_layers
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blob_key = layer_key)
"""

BLOBS_WRONGLY_COUNTED = """
SELECT digest
FROM blobs
LEFT JOIN (SELECT layer_key, count(*) AS uses FROM manifest_layers GROUP BY layer_key) ON layer_key = blob_key
WHERE layer_uses <> coalesce(uses, 0)
"""

CHAINS_WRONGLY_COUNTED = """
SELECT chain_id
FROM chains
LEFT JOIN (SELECT chain_key AS used, count(*) AS uses FROM manifest_layers GROUP BY chain_key) ON used = chain_key
WHERE layer_uses IS NOT uses
"""
"""A chain id that no layer has is wrong too."""

BLOBS_WITHOUT_USE = """
SELECT digest FROM blobs
WHERE layer_uses = 0
    AND NOT EXISTS (SELECT 1 FROM images WHERE config_key = blob_key)
    AND NOT EXISTS (SELECT 1 FROM ref_cache WHERE target_digest = digest)
    AND NOT EXISTS (SELECT 1 FROM target_manifests WHERE manifest_key = blob_key)
    AND NOT EXISTS (SELECT 1 FROM manifests WHERE config_key = blob_key)
"""
