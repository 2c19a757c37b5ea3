"""Statements about what targets are made of."""

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
