"""The conditions that filters of images compile to, and the statements that read the images that they keep.

A condition is true or false of a row of `images`. Ids, digests, layers, pins and containers are found by an index.
The others read every image or reference once, as a list of all images does anyway: sizes and times are compared row
by row, labels and creation times are in the configs, and a pattern may match any name.
"""

from __future__ import annotations

from typing import Final

from imagekeep.questions.filters import Operator

_CONFIG = """(
    SELECT CASE WHEN json_valid(CAST(document AS TEXT)) THEN CAST(document AS TEXT) END
    FROM documents WHERE documents.blob_key = images.config_key
)"""

CANONICAL = "coalesce(sort_name, name)"

_THREE_RANGES = "({0} >= ? AND {0} < ? OR {0} >= ? AND {0} < ? OR {0} >= ? AND {0} < ?)"

_BLOBS_IN_RANGES = f"SELECT blob_key FROM blobs WHERE {_THREE_RANGES.format('digest')}"

REFERENCE = """images.image_key IN (
    SELECT "references".image_key
    FROM "references"
    LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
    WHERE matches_reference(?, name, target_digest)
)"""
"""Reads every reference once: a pattern may match any name, in any of its spellings."""

ID = _THREE_RANGES.format("images.id")

DIGEST = f"""images.image_key IN (
    SELECT image_key FROM ref_cache
    WHERE target_digest IN (SELECT digest FROM blobs WHERE {_THREE_RANGES.format("digest")})
    UNION ALL
    SELECT image_key FROM ref_cache WHERE manifest_key IN ({_BLOBS_IN_RANGES})
)"""
"""The digest of a target, or of the manifest selected beneath it; both are searched through their indexes."""

LAYER = f"""images.image_key IN (
    SELECT ref_cache.image_key FROM manifest_layers JOIN ref_cache USING (manifest_key)
    WHERE layer_key IN ({_BLOBS_IN_RANGES})
    UNION ALL
    SELECT ref_cache.image_key FROM manifest_layers JOIN ref_cache USING (manifest_key)
    WHERE chain_key IN (SELECT chain_key FROM chains WHERE {_THREE_RANGES.format("diff_id")})
)"""
"""The digest of a layer, compressed or not."""

LABEL = f"""EXISTS (
    SELECT 1 FROM json_each({_CONFIG}, '$.config.Labels')
    WHERE key GLOB ? AND (? = '' OR value = ?)
)"""
"""Decodes every config: labels are not in any column, because they often hold secrets."""

PLATFORM = """images.image_key IN (
    SELECT ref_cache.image_key
    FROM ref_cache
    JOIN blobs ON digest = target_digest
    JOIN target_manifests ON target_key = blob_key AND target_manifests.manifest_key = ref_cache.manifest_key
    WHERE platform = ? OR platform GLOB ?
)"""

REGISTRY = f"""images.image_key IN (
    SELECT image_key FROM "references"
    WHERE sort_rank <= 3 AND substr({CANONICAL}, 1, instr({CANONICAL}, '/') - 1) = ?
)"""

REPOSITORY = f"""images.image_key IN (
    SELECT image_key FROM "references"
    WHERE sort_rank <= 3
        AND ({CANONICAL} = ? OR substr({CANONICAL}, 1, ?) IN (?, ?))
)"""

DANGLING = 'images.image_key NOT IN (SELECT image_key FROM "references" WHERE sort_rank <> 4)'

UNTAGGED = 'images.image_key NOT IN (SELECT image_key FROM "references" WHERE sort_rank <= 1)'

PINNED = "images.image_key IN (SELECT image_key FROM pinned_refs)"

IN_USE = """(
    images.id IN (SELECT containers.image_id FROM containers WHERE containers.image_id IS NOT NULL)
    OR images.image_key IN (
        SELECT "references".image_key
        FROM "references" JOIN containers ON reference = name AND containers.image_id IS NULL
    )
)"""
"""A container whose image is not known uses what its reference names."""

SIZE: Final = {
    operator: f"CASE WHEN size < 0 THEN 9223372036854775807 ELSE size END {operator} ?"
    for operator in Operator
}
"""A negative size is one that wrapped at 64 bits, and is larger than any other."""

_CREATIONS = f"""
    WITH written AS MATERIALIZED (
        SELECT
            images.image_key,
            images.id,
            json_extract({_CONFIG}, '$.created') AS created
        FROM images
    )
    SELECT
        image_key,
        seconds IS NOT NULL AS is_written,
        CASE WHEN seconds IS NULL THEN first_seen / 1000000 ELSE seconds END AS seconds,
        CASE
            WHEN seconds IS NULL THEN first_seen % 1000000 * 1000
            ELSE CAST(
                substr(substr(created, 21, length(created) - 20 - length(zone)) || '000000000', 1, 9) AS INTEGER
            )
        END AS nanoseconds
    FROM (
        SELECT *, CAST(strftime('%s', substr(created, 1, 19) || zone) AS INTEGER) AS seconds
        FROM (
            SELECT *, CASE WHEN created GLOB '*Z' THEN 'Z' ELSE substr(created, -6) END AS zone
            FROM written LEFT JOIN image_usage ON image_id = id
        )
    )"""
"""When each image was made, to the nanosecond: the time in its config, else when the store first had it."""

CREATED: Final = {
    operator: f"""images.image_key IN (
    SELECT image_key FROM ({_CREATIONS}
    )
    WHERE (seconds, nanoseconds) {operator} (?, ?)
)"""
    for operator in Operator
}
"""Decodes every config, as LABEL does."""

FIRST_SEEN: Final = {
    operator: f"images.id IN (SELECT image_id FROM image_usage WHERE first_seen {operator} ?)"
    for operator in Operator
}

UNUSED_FOR: Final = {
    operator: f"""(
    CASE WHEN {IN_USE} THEN 0
    ELSE (SELECT ? - coalesce(last_used, first_seen) FROM image_usage WHERE image_id = images.id)
    END
) {operator} ?"""
    for operator in Operator
}
"""An image that was never used is unused since the store first had it."""

STATE_NUMBERS: Final = {"absent": 1, "partial": 2, "complete": 3}

STATES = """
    SELECT
        ref_cache.image_key,
        max(
            CASE
                WHEN manifest.present = 0 THEN 1
                WHEN config.present = 0 OR layers.present = 0 THEN 2
                WHEN manifest.present = 1 AND config.present = 1 AND layers.unknown IS NOT 1 THEN 3
            END
        ) AS state
    FROM ref_cache
    JOIN manifests USING (manifest_key)
    JOIN blobs AS manifest ON manifest.blob_key = manifest_key
    JOIN blobs AS config ON config.blob_key = manifests.config_key
    LEFT JOIN (
        SELECT manifest_key, min(present) AS present, max(present IS NULL) AS unknown
        FROM manifest_layers JOIN blobs ON blob_key = layer_key
        GROUP BY manifest_key
    ) AS layers USING (manifest_key)
    GROUP BY ref_cache.image_key"""
"""Whether the source has each image's content: 1 absent, 2 partial, 3 complete; no row, or null, if unknown."""

STATE = f"images.image_key IN (SELECT image_key FROM ({STATES}\n    ) WHERE state = ?)"

CREATION_OF_IMAGE = f"""
SELECT seconds, nanoseconds FROM ({_CREATIONS}
) WHERE image_key = (
    SELECT min(image_key) FROM images WHERE platform_key IN (SELECT platform_key FROM platforms) AND id = ?
)
"""

_IMAGES = "SELECT image_key FROM images WHERE platform_key IN (SELECT value FROM json_each(?))"


def images_that_match(conditions: list[str]) -> str:
    """Return the statement that selects the keys of images; its conditions are those of this module."""
    return " AND ".join([_IMAGES, *conditions])


def without(condition: str) -> str:
    """Return the negation of a condition, which is true where the condition is unknown."""
    return f"({condition}) IS NOT TRUE"


LISTED_IMAGES = """
SELECT image_key, id, size FROM images WHERE image_key IN (SELECT value FROM json_each(?))
"""

LISTED_REFERENCES = """
SELECT
    "references".image_key, sort_rank, coalesce(sort_name, name), name,
    target_digest, pinned_refs.reference IS NOT NULL
FROM "references"
LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
LEFT JOIN pinned_refs ON pinned_refs.reference = name AND pinned_refs.image_key = "references".image_key
WHERE "references".image_key IN (SELECT value FROM json_each(?))
"""

LISTED_CREATIONS = f"""
SELECT image_key, seconds, nanoseconds FROM ({_CREATIONS}
) WHERE is_written AND image_key IN (SELECT value FROM json_each(?))
"""

LISTED_PLATFORMS = """
SELECT DISTINCT ref_cache.image_key, platform
FROM ref_cache
JOIN blobs ON digest = target_digest
JOIN target_manifests ON target_key = blob_key AND target_manifests.manifest_key = ref_cache.manifest_key
WHERE platform IS NOT NULL AND ref_cache.image_key IN (SELECT value FROM json_each(?))
"""

LISTED_USAGE = """
SELECT image_key, first_seen, last_used, (SELECT count(*) FROM containers WHERE containers.image_id = id)
FROM images JOIN image_usage ON image_usage.image_id = id
WHERE image_key IN (SELECT value FROM json_each(?))
"""

LISTED_STATES = f"""
SELECT image_key, state FROM ({STATES}
) WHERE image_key IN (SELECT value FROM json_each(?))
"""

LISTED_CONTENT = """
WITH content (image_key, blob_key) AS MATERIALIZED (
    SELECT image_key, blob_key FROM ref_cache JOIN blobs ON digest = target_digest
    UNION SELECT image_key, manifest_key FROM ref_cache WHERE manifest_key IS NOT NULL
    UNION SELECT image_key, config_key FROM ref_cache JOIN manifests USING (manifest_key)
    UNION SELECT image_key, layer_key FROM ref_cache JOIN manifest_layers USING (manifest_key)
),
users AS MATERIALIZED (
    SELECT blob_key, count(DISTINCT id) AS images FROM content JOIN images USING (image_key) GROUP BY blob_key
)
SELECT
    image_key,
    sum(size) FILTER (WHERE images = 1),
    sum(size) FILTER (WHERE images > 1),
    count(*) - count(size)
FROM content JOIN users USING (blob_key) JOIN blobs USING (blob_key)
WHERE image_key IN (SELECT value FROM json_each(?))
GROUP BY image_key
"""
"""The bytes of each image that no other image has, and that others share; each blob counts once."""
