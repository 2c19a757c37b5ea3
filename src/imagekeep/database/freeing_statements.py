"""The statements that count the bytes of content, each blob and each layer on disk once.

A reference reaches its target, the manifests beneath it for every platform, their configs and their layers; content
is freed when no reference reaches it any more. Each statement reads what every reference reaches, because what one
frees depends on all the others.
"""

from __future__ import annotations

from imagekeep.database.filter_statements import IN_USE

REACHED = """
targets (reference, target_key) AS MATERIALIZED (
    SELECT DISTINCT reference, blob_key FROM ref_cache JOIN blobs ON digest = target_digest
),
beneath (target_key, manifest_key) AS MATERIALIZED (
    SELECT target_key, target_key FROM targets
    UNION
    SELECT target_key, manifest_key FROM target_manifests
),
reached (target_key, blob_key) AS MATERIALIZED (
    SELECT target_key, manifest_key FROM beneath
    UNION
    SELECT target_key, config_key FROM beneath JOIN manifests USING (manifest_key)
    UNION
    SELECT target_key, layer_key FROM beneath JOIN manifest_layers USING (manifest_key)
),
unpacked (target_key, chain_key) AS MATERIALIZED (
    SELECT DISTINCT target_key, chain_key FROM beneath JOIN manifest_layers USING (manifest_key)
    WHERE chain_key IS NOT NULL
)"""
"""What each target reaches: blobs, and layers as they are unpacked upon each other."""

_STEPS = f"""
WITH {REACHED},
steps (reference, step) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:steps)
),
removed (target_key, step, is_touched) AS MATERIALIZED (
    SELECT target_key, CASE WHEN count(*) = count(step) THEN max(step) END, count(step) > 0
    FROM targets LEFT JOIN steps USING (reference)
    GROUP BY target_key
)"""
"""In which step the last reference of each target is removed, null if one stays, and whether any is."""

FREED_CONTENT = f"""{_STEPS},
blob_steps (blob_key, is_touched, last) AS (
    SELECT blob_key, max(is_touched), CASE WHEN count(*) = count(step) THEN max(step) END
    FROM reached JOIN removed USING (target_key)
    GROUP BY blob_key
)
SELECT
    last,
    coalesce(sum(size) FILTER (WHERE present = 1), 0),
    count(*) FILTER (WHERE present IS NULL OR (present = 1 AND size IS NULL))
FROM blob_steps JOIN blobs USING (blob_key)
WHERE is_touched
GROUP BY last
"""
"""For each step the bytes of content that it frees, and how many blobs are not known; null for what stays, of all
that the removed references reach."""

FREED_UNPACKED = f"""{_STEPS},
chain_steps (chain_key, is_touched, last) AS (
    SELECT chain_key, max(is_touched), CASE WHEN count(*) = count(step) THEN max(step) END
    FROM unpacked JOIN removed USING (target_key)
    GROUP BY chain_key
)
SELECT
    last,
    coalesce(sum(unpacked_bytes) FILTER (WHERE unpacked = 1), 0),
    count(*) FILTER (WHERE unpacked IS NULL OR (unpacked = 1 AND unpacked_bytes IS NULL))
FROM chain_steps JOIN chains USING (chain_key)
WHERE is_touched
GROUP BY last
"""
"""The same for layers that are unpacked: bytes on disk."""

SHARED_CONTENT = f"""
WITH {REACHED},
shared (blob_key) AS (
    SELECT blob_key FROM reached GROUP BY blob_key HAVING count(*) > 1
)
SELECT
    coalesce(sum(size) FILTER (WHERE present = 1), 0),
    count(*) FILTER (WHERE present IS NULL OR (present = 1 AND size IS NULL))
FROM shared JOIN blobs USING (blob_key)
"""
"""The bytes of the blobs that several targets reach, each once, and how many of these are not known."""

UNKNOWN_TARGETS = """
SELECT (
    SELECT count(*) FROM "references"
    LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = "references".image_key
    LEFT JOIN blobs ON digest = target_digest
    WHERE NOT EXISTS (SELECT 1 FROM target_manifests WHERE target_key = blob_key)
) + (SELECT count(*) FROM incomplete_refs)
"""
"""References of whose targets the store does not know what they are made of, or could not read them: they may share
any content, so no total is known."""

NAMES_OF_IMAGES = """
SELECT id, name FROM "references" JOIN images USING (image_key) ORDER BY images.platform_key
"""
"""Every name of every image, for one platform after the other."""

COLLECTABLE_IMAGES = f"""
SELECT
    id,
    max(size),
    min(first_seen),
    max(last_used),
    max(image_key IN (SELECT image_key FROM pinned_refs)),
    max({IN_USE} OR images.image_key IN (
        SELECT sibling.image_key
        FROM containers
        CROSS JOIN platforms AS its
        CROSS JOIN images AS used ON used.platform_key = its.platform_key AND used.id = containers.image_id
        CROSS JOIN "references" AS named ON named.image_key = used.image_key
        CROSS JOIN platforms AS other
        CROSS JOIN "references" AS sibling
            ON sibling.platform_key = other.platform_key AND sibling.name = named.name
    ))
FROM images LEFT JOIN image_usage ON image_usage.image_id = id
GROUP BY id
"""
"""Every image once, whatever its platforms, with what garbage collection asks.

Removing an image removes its names, so that it is in use if one of them is the name of a used image for another
platform. CROSS JOIN keeps the order, from the few containers to their names; another reads all references for each.
"""

CONTAINERS_AT = "SELECT containers_at FROM content_look"
"""When the source last said which containers it has; null if it never has."""

NAMED_TARGETS = """
SELECT name, id, target_digest
FROM "references"
JOIN images USING (image_key)
LEFT JOIN ref_cache ON ref_cache.reference = name AND ref_cache.image_key = images.image_key
"""
"""Every name with its image and target, for all platforms."""
