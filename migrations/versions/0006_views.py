"""Make the views a contract: every column described, and more views, of all that a store knows.

The contract's version is SQLite's user_version. A later revision may add views and columns; if it removes or changes
one, it raises the version.

Revision: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OLD_VIEWS = ("image_list", "reference_list", "config_list", "history_list")

VIEWS = (
    """\
CREATE VIEW manifest_list AS /* one row is an image manifest that was read, of any platform */
SELECT
    blobs.digest, /* of the manifest */
    configs.digest AS image_id, /* digest of its config document */
    manifests.compressed_size AS size, /* compressed bytes of manifest, config and every layer; null if impossible */
    (SELECT count(*) FROM manifest_layers WHERE manifest_layers.manifest_key = manifests.manifest_key) AS layers, /* how many */
    CASE
        WHEN blobs.present = 0 THEN 'absent'
        WHEN manifests.compressed_size IS NULL OR configs.present = 0 OR EXISTS (
            SELECT 1 FROM manifest_layers JOIN blobs AS layers ON layers.blob_key = layer_key
            WHERE manifest_layers.manifest_key = manifests.manifest_key AND layers.present = 0
        ) THEN 'partial'
        WHEN blobs.present IS NULL OR configs.present IS NULL OR EXISTS (
            SELECT 1 FROM manifest_layers JOIN blobs AS layers ON layers.blob_key = layer_key
            WHERE manifest_layers.manifest_key = manifests.manifest_key AND layers.present IS NULL
        ) THEN NULL
        ELSE 'complete'
    END AS state /* complete, partial or absent, as the source last had its content; null if not known yet */
FROM manifests
JOIN blobs ON blobs.blob_key = manifests.manifest_key
JOIN blobs AS configs ON configs.blob_key = manifests.config_key""",
    """\
CREATE VIEW content_list AS /* one row is a blob that an image of the first platform keeps at the source, by any of its names */
SELECT
    images.id AS image_id, /* digest of the config document of the image */
    blobs.digest, /* of the blob */
    blobs.size, /* compressed bytes; null if not known yet */
    blobs.media_type, /* of the blob */
    blobs.present /* whether the source had it when last looked; null if not known yet */
FROM (
    SELECT ref_cache.image_key, blobs.blob_key
    FROM ref_cache JOIN blobs ON blobs.digest = ref_cache.target_digest
    UNION
    SELECT ref_cache.image_key, target_manifests.manifest_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    UNION
    SELECT ref_cache.image_key, manifests.config_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    JOIN manifests ON manifests.manifest_key = target_manifests.manifest_key
    UNION
    SELECT ref_cache.image_key, manifest_layers.layer_key
    FROM ref_cache
    JOIN blobs ON blobs.digest = ref_cache.target_digest
    JOIN target_manifests ON target_manifests.target_key = blobs.blob_key
    JOIN manifest_layers ON manifest_layers.manifest_key = target_manifests.manifest_key
) AS content
JOIN images ON images.image_key = content.image_key
JOIN blobs ON blobs.blob_key = content.blob_key
WHERE images.platform_key = 0""",
    """\
CREATE VIEW image_list AS /* one row is an image of the first platform */
SELECT
    images.id, /* digest of the config document */
    (
        SELECT json_group_array(name)
        FROM (
            SELECT name FROM "references"
            WHERE "references".image_key = images.image_key
            ORDER BY sort_rank, coalesce(sort_name, name), name
        )
    ) AS reference_names, /* its references, a list in docker's order */
    images.size, /* compressed bytes of index, manifest, config and every layer, as containerd reports them */
    EXISTS (
        SELECT 1 FROM "references" JOIN pinned_refs ON reference = name AND pinned_refs.image_key = images.image_key
        WHERE "references".image_key = images.image_key
    ) AS pinned, /* whether a reference pins it */
    images.chain_id, /* identifies the ordered layers; empty without layers */
    (
        SELECT name FROM "references"
        WHERE "references".image_key = images.image_key
        ORDER BY sort_rank, coalesce(sort_name, name), name
        LIMIT 1
    ) AS name, /* its first reference in docker's order */
    (
        SELECT CASE
            WHEN max(manifest_list.state = 'complete') THEN 'complete'
            WHEN max(manifest_list.state = 'partial') THEN 'partial'
            ELSE max(manifest_list.state)
        END
        FROM "references"
        JOIN ref_cache ON reference = name AND ref_cache.image_key = images.image_key
        JOIN blobs ON blobs.blob_key = ref_cache.manifest_key
        JOIN manifest_list ON manifest_list.digest = blobs.digest
        WHERE "references".image_key = images.image_key
    ) AS state, /* complete, partial or absent, as the source last had its content; null if not known yet */
    CASE
        WHEN (SELECT containers_at FROM content_look) IS NOT NULL
            THEN EXISTS (SELECT 1 FROM containers WHERE containers.image_id = images.id)
    END AS in_use, /* whether a container has it, running or not; null if containers are not known yet */
    (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', first_seen / 1000000.0, 'unixepoch')
        FROM image_usage WHERE image_id = images.id) AS first_seen, /* when the store first had it: ISO 8601, UTC */
    (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', last_used / 1000000.0, 'unixepoch')
        FROM image_usage WHERE image_id = images.id) AS last_used /* when a container last had it: ISO 8601, UTC; null if no use was seen */
FROM images
WHERE images.platform_key = 0""",
    """\
CREATE VIEW reference_list AS /* one row is a reference of the first platform */
SELECT
    reference, /* as the source spells it */
    image_id, /* digest of the config document of its image */
    target_digest, /* of the manifest or index; null if no source was asked */
    pinned, /* whether it pins its image */
    verified, /* when the source last confirmed it: ISO 8601, UTC */
    CAST(substr(repository, 1, instr(repository, '/') - 1) AS TEXT) AS registry, /* host and port, docker.io for short names; null for an image id and for what is not a reference */
    CAST(repository AS TEXT) AS repository, /* registry and path without tag and digest; null like registry */
    CAST(CASE WHEN instr(last, ':') THEN substr(last, instr(last, ':') + 1) END AS TEXT) AS tag, /* null without a tag */
    CAST(CASE WHEN instr(spelling, '@') THEN substr(spelling, instr(spelling, '@') + 1) END AS TEXT) AS digest, /* the digest in the reference; null without one */
    CASE sort_rank
        WHEN 0 THEN 'tag and digest'
        WHEN 1 THEN 'tag'
        WHEN 2 THEN 'digest'
        WHEN 3 THEN 'name'
        WHEN 4 THEN 'id'
        ELSE 'other'
    END AS kind /* tag, digest, tag and digest, name, id or other */
FROM (
    SELECT
        *,
        directory || CASE WHEN instr(last, ':') THEN substr(last, 1, instr(last, ':') - 1) ELSE last END AS repository
    FROM (
        SELECT *, substr(undigested, length(directory) + 1) AS last
        FROM (
            SELECT *, rtrim(undigested, replace(undigested, '/', '')) AS directory
            FROM (
                SELECT
                    *,
                    CASE WHEN instr(spelling, '@') THEN substr(spelling, 1, instr(spelling, '@') - 1) ELSE spelling END
                        AS undigested
                FROM (
                    SELECT
                        "references".name AS reference,
                        "references".sort_rank,
                        CASE WHEN sort_rank < 4 THEN coalesce(sort_name, "references".name) END AS spelling,
                        images.id AS image_id,
                        ref_cache.target_digest,
                        pinned_refs.reference IS NOT NULL AS pinned,
                        strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
                    FROM "references"
                    JOIN images ON images.image_key = "references".image_key
                    LEFT JOIN ref_cache
                        ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
                    LEFT JOIN pinned_refs
                        ON pinned_refs.reference = "references".name AND pinned_refs.image_key = "references".image_key
                    WHERE "references".platform_key = 0
                )
            )
        )
    )
)""",
    """\
CREATE VIEW config_list AS /* one row is what the config of an image of the first platform says, without Env and Labels */
SELECT
    id, /* digest of the config document */
    json_extract(config, '$.os') AS os, /* operating system */
    json_extract(config, '$.architecture') AS architecture, /* as Go spells it: amd64, arm64 */
    json_extract(config, '$.variant') AS variant, /* of the architecture: v7, v8 */
    json_extract(config, '$.created') AS created, /* when it was built, as the config says it */
    json_extract(config, '$.config.User') AS user, /* user and group, by name or number */
    json_extract(config, '$.config.WorkingDir') AS working_directory, /* where the command starts */
    json_extract(config, '$.config.Entrypoint') AS entrypoint, /* a list */
    json_extract(config, '$.config.Cmd') AS command, /* a list: the entrypoint's arguments */
    json_array_length(config, '$.rootfs.diff_ids') AS layers, /* how many */
    CASE
        WHEN json_type(config, '$.config.ExposedPorts') = 'object'
            THEN (SELECT json_group_array(key) FROM json_each(config, '$.config.ExposedPorts'))
    END AS ports, /* exposed ports, a list */
    CASE
        WHEN json_type(config, '$.config.Volumes') = 'object'
            THEN (SELECT json_group_array(key) FROM json_each(config, '$.config.Volumes'))
    END AS volumes, /* mount points of volumes, a list */
    json_extract(config, '$.config.StopSignal') AS stop_signal /* sent to stop a container; null means SIGTERM */
FROM (
    SELECT images.id, CASE WHEN json_valid(CAST(document AS TEXT)) THEN CAST(document AS TEXT) END AS config
    FROM images JOIN documents ON documents.blob_key = images.config_key
    WHERE images.platform_key = 0
)""",
    """\
CREATE VIEW platform_list AS /* one row is a manifest beneath the target of a reference: one platform of a multi-platform image */
SELECT
    "references".name AS reference, /* as the source spells it */
    target_manifests.platform, /* normalized: linux/amd64, linux/arm/v7; null if neither index nor config says */
    configs.digest AS image_id, /* digest of the config document; null if the manifest was not read */
    blobs.digest AS manifest_digest, /* of the manifest */
    manifests.compressed_size AS size, /* compressed bytes of manifest, config and every layer; null if the manifest was not read */
    CASE
        WHEN blobs.present = 0 THEN 'absent'
        WHEN manifests.manifest_key IS NULL AND EXISTS (
            SELECT 1 FROM documents WHERE documents.blob_key = blobs.blob_key
        ) THEN 'partial'
        ELSE (SELECT state FROM manifest_list WHERE digest = blobs.digest)
    END AS state, /* complete, partial or absent, as the source last had its content; null if not known yet */
    coalesce(ref_cache.manifest_key = target_manifests.manifest_key, 0) AS chosen, /* whether it is the manifest of the first platform */
    target_manifests.is_attestation AS attestation, /* whether it describes another manifest and is no image */
    target_manifests.position, /* in the index, depth first */
    ref_cache.target_digest /* of the manifest or index that the reference points at */
FROM "references"
JOIN ref_cache ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
JOIN blobs AS targets ON targets.digest = ref_cache.target_digest
JOIN target_manifests ON target_manifests.target_key = targets.blob_key
JOIN blobs ON blobs.blob_key = target_manifests.manifest_key
LEFT JOIN manifests ON manifests.manifest_key = target_manifests.manifest_key
LEFT JOIN blobs AS configs ON configs.blob_key = manifests.config_key
WHERE "references".platform_key = 0
    AND coalesce(blobs.media_type, '') NOT IN (
        'application/vnd.oci.image.index.v1+json',
        'application/vnd.docker.distribution.manifest.list.v2+json'
    )""",
    """\
CREATE VIEW layer_list AS /* one row is one occurrence of a layer in an image manifest, of any platform */
SELECT
    configs.digest AS image_id, /* digest of the config document */
    manifest_blobs.digest AS manifest_digest, /* of the manifest */
    manifest_layers.position, /* 0 is the lowest */
    layers.digest, /* of the layer, as it is stored */
    layers.size, /* compressed bytes; null if impossible */
    layers.media_type, /* tells the compression */
    layers.present, /* whether the source had it when last looked; null if not known yet */
    chains.diff_id, /* digest of the uncompressed layer; null if the config does not say */
    chains.chain_id, /* identifies the layer and all beneath it */
    chains.unpacked, /* whether the source has its snapshot; null if not known yet */
    chains.unpacked_bytes /* of this layer alone, on disk; null if not known yet */
FROM manifest_layers
JOIN manifests ON manifests.manifest_key = manifest_layers.manifest_key
JOIN blobs AS manifest_blobs ON manifest_blobs.blob_key = manifests.manifest_key
JOIN blobs AS configs ON configs.blob_key = manifests.config_key
JOIN blobs AS layers ON layers.blob_key = manifest_layers.layer_key
LEFT JOIN chains ON chains.chain_key = manifest_layers.chain_key""",
    """\
CREATE VIEW size_list AS /* one row is what an image of the first platform takes at the source, over all platforms that are there */
SELECT
    content_list.image_id, /* digest of the config document */
    coalesce(sum(content_list.size), 0) AS content_size, /* compressed bytes of all its blobs, each once */
    coalesce(sum(CASE WHEN users.images = 1 THEN content_list.size END), 0) AS unique_size, /* bytes of those that no other image needs: what removing it alone frees */
    coalesce(sum(CASE WHEN users.images > 1 THEN content_list.size END), 0) AS shared_size /* bytes of those that other images need too */
FROM content_list
JOIN (SELECT digest, count(*) AS images FROM content_list GROUP BY digest) AS users
    ON users.digest = content_list.digest
WHERE content_list.present IS NOT 0
GROUP BY content_list.image_id""",
    """\
CREATE VIEW container_list AS /* one row is a container of the source's namespace */
SELECT
    container_id, /* as the source names it */
    reference, /* of its image, as the container says */
    image_id, /* what the reference named when the container was first seen; null if the store had none */
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000000.0, 'unixepoch') AS created, /* ISO 8601, UTC */
    running /* whether it ran when last looked */
FROM containers""",
    """\
CREATE VIEW usage_list AS /* one row is the use of an image */
SELECT
    image_usage.image_id, /* digest of the config document */
    strftime('%Y-%m-%dT%H:%M:%fZ', first_seen / 1000000.0, 'unixepoch') AS first_seen, /* when the store first had it: ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', last_used / 1000000.0, 'unixepoch') AS last_used, /* when a container last had it: ISO 8601, UTC; null if no use was seen */
    uses, /* containers seen, and uses reported */
    (SELECT count(*) FROM containers WHERE containers.image_id = image_usage.image_id) AS containers, /* how many have it now, running or not */
    (SELECT count(*) FROM containers WHERE containers.image_id = image_usage.image_id AND running) AS running /* how many of them run */
FROM image_usage""",
    """\
CREATE VIEW history_list AS /* one row is a change to a reference, the newest last */
SELECT
    sequence, /* grows with time */
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time, /* ISO 8601, UTC */
    reference, /* as the source spells it */
    event, /* new, moved, retargeted, pinned, unpinned, vanished; recorded if older than the history */
    image_id, /* named from then on; if vanished, until then */
    target_digest, /* of the manifest or index; null if no source was asked */
    pinned, /* whether the reference pins the image from then on */
    size, /* compressed bytes; null in rows before revision 0005, and if vanished */
    platform /* null in rows before revision 0005 */
FROM reference_history""",
    """\
CREATE VIEW pin_list AS /* one row is a reference of the first platform that pins its image */
SELECT
    pinned_refs.reference, /* as the source spells it */
    images.id AS image_id, /* digest of the config document */
    (
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(at) / 1000000.0, 'unixepoch')
        FROM reference_history
        WHERE reference_history.reference = pinned_refs.reference
            AND pinned
            AND event <> 'recorded'
            AND sequence > coalesce(
                (
                    SELECT max(sequence) FROM reference_history
                    WHERE reference_history.reference = pinned_refs.reference AND (NOT pinned OR event = 'vanished')
                ),
                0
            )
    ) AS since /* when it began to pin an image: ISO 8601, UTC; null if older than the history */
FROM pinned_refs
JOIN images ON images.image_key = pinned_refs.image_key
WHERE images.platform_key = 0""",
    """\
CREATE VIEW gc_list AS /* one row is an image that a kubelet may collect: not pinned, and no known container has it */
SELECT
    row_number() OVER (ORDER BY image_usage.last_used, image_usage.first_seen, images.id) AS position, /* 1 goes first: never used, else least recently used; then first seen; then id */
    images.id AS image_id, /* digest of the config document */
    images.size, /* compressed bytes, which a kubelet counts as freed; shared layers make it less */
    strftime('%Y-%m-%dT%H:%M:%fZ', image_usage.first_seen / 1000000.0, 'unixepoch') AS first_seen, /* ISO 8601, UTC; a kubelet spares an image for two minutes after it */
    strftime('%Y-%m-%dT%H:%M:%fZ', image_usage.last_used / 1000000.0, 'unixepoch') AS last_used /* ISO 8601, UTC; null if no use was seen */
FROM images
LEFT JOIN image_usage ON image_usage.image_id = images.id
WHERE images.platform_key = 0
    AND NOT EXISTS (SELECT 1 FROM pinned_refs WHERE pinned_refs.image_key = images.image_key)
    AND NOT EXISTS (SELECT 1 FROM containers WHERE containers.image_id = images.id)""",
    """\
CREATE VIEW incomplete_list AS /* one row is a reference at the source whose image cannot be read, or not yet */
SELECT
    reference, /* as the source spells it */
    error, /* why its image could not be read when last tried */
    strftime('%Y-%m-%dT%H:%M:%fZ', since / 1000000.0, 'unixepoch') AS since, /* ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', tried_at / 1000000.0, 'unixepoch') AS tried, /* when last tried: ISO 8601, UTC */
    tries /* how often */
FROM incomplete_refs""",
    """\
CREATE VIEW store_list AS /* one row: the store, its source, and when the source was last asked */
SELECT
    identity.store_id, /* 32 random hex digits; a restored store gets new ones */
    identity.source, /* specifier of the source of the last sync of all references; null until then */
    identity.namespace, /* containerd's; null for other sources */
    (SELECT platform FROM platforms WHERE platform_key = 0) AS platform, /* the first platform; null until the first update */
    1 AS contract, /* version of these views; PRAGMA user_version is the same */
    (SELECT count(*) FROM images WHERE platform_key = 0) AS images, /* how many of the first platform */
    (SELECT count(*) FROM "references" WHERE platform_key = 0) AS reference_names, /* how many references of the first platform */
    strftime('%Y-%m-%dT%H:%M:%fZ', content_look.blobs_at / 1000000.0, 'unixepoch') AS contents_listed, /* when the source was last asked what blobs it has: ISO 8601, UTC */
    strftime('%Y-%m-%dT%H:%M:%fZ', content_look.containers_at / 1000000.0, 'unixepoch') AS containers_listed /* when the source was last asked for its containers: ISO 8601, UTC */
FROM identity CROSS JOIN content_look""",
)

NAMES = (
    "manifest_list",
    "content_list",
    "image_list",
    "reference_list",
    "config_list",
    "platform_list",
    "layer_list",
    "size_list",
    "container_list",
    "usage_list",
    "history_list",
    "pin_list",
    "gc_list",
    "incomplete_list",
    "store_list",
)

VIEWS_OF_0005 = (
    """\
CREATE VIEW image_list AS /* one row an image of the first platform; its references as a JSON array, in order */
SELECT
    images.id,
    (
        SELECT json_group_array(name)
        FROM (
            SELECT name FROM "references"
            WHERE "references".image_key = images.image_key
            ORDER BY sort_rank, coalesce(sort_name, name), name
        )
    ) AS reference_names,
    images.size,
    EXISTS (
        SELECT 1 FROM "references" JOIN pinned_refs ON reference = name AND pinned_refs.image_key = images.image_key
        WHERE "references".image_key = images.image_key
    ) AS pinned,
    images.chain_id
FROM images
WHERE images.platform_key = 0""",
    """\
CREATE VIEW reference_list AS /* one row a reference of the first platform: its image, its target, its pin, its age */
SELECT
    "references".name AS reference,
    images.id AS image_id,
    ref_cache.target_digest,
    pinned_refs.reference IS NOT NULL AS pinned,
    strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = "references".name AND ref_cache.image_key = "references".image_key
LEFT JOIN pinned_refs ON pinned_refs.reference = "references".name AND pinned_refs.image_key = "references".image_key
WHERE "references".platform_key = 0""",
    """\
CREATE VIEW config_list AS /* one row an image of the first platform: what its config says, but for Env and Labels */
SELECT
    id,
    json_extract(config, '$.os') AS os,
    json_extract(config, '$.architecture') AS architecture,
    json_extract(config, '$.variant') AS variant,
    json_extract(config, '$.created') AS created,
    json_extract(config, '$.config.User') AS user,
    json_extract(config, '$.config.WorkingDir') AS working_directory,
    json_extract(config, '$.config.Entrypoint') AS entrypoint,
    json_extract(config, '$.config.Cmd') AS command,
    json_array_length(config, '$.rootfs.diff_ids') AS layers
FROM (
    SELECT images.id, CASE WHEN json_valid(CAST(document AS TEXT)) THEN CAST(document AS TEXT) END AS config
    FROM images JOIN documents ON documents.blob_key = images.config_key
    WHERE images.platform_key = 0
)""",
    """\
CREATE VIEW history_list AS /* one row a change to a reference, the newest last */
SELECT
    sequence,
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time,
    reference,
    event,
    image_id,
    target_digest,
    pinned,
    size,
    platform
FROM reference_history""",
)


def upgrade() -> None:
    for name in OLD_VIEWS:
        op.execute(f"DROP VIEW {name}")
    for statement in VIEWS:
        op.execute(statement)
    op.execute("PRAGMA user_version = 1")


def downgrade() -> None:
    for name in NAMES:
        op.execute(f"DROP VIEW {name}")
    for statement in VIEWS_OF_0005:
        op.execute(statement)
    op.execute("PRAGMA user_version = 0")
