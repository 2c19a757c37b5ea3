"""Every statement for PostgreSQL outside the migrations.

Those that run on the views of the contract are written so that SQLite runs them too, on the same views that
`imagekeep.fleet.exports` makes; their parameters are named, as `:name`.
"""

HELLO = """
SELECT epoch, sequence, cursor_row, store_id, origin_sequence, origin_row, hash_due, incomplete_hash
FROM fleet.hello_v1(1, %s, %s, %s, %s, %s, %s, %s, %s)
"""

RECEIVE = """
SELECT fleet.receive_v1(
    %s, %s, %s, %s, %s, %s::text[], %s::text[], %s::bigint[], %s::text[], %s::boolean[], %s::timestamptz[])
"""

SNAPSHOT = """
SELECT epoch, lacking FROM fleet.snapshot_v1(
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s::text[], %s::bigint[], %s::text[], %s::boolean[])
"""

HASH = "SELECT equal, lacking FROM fleet.hash_v1(%s, %s, %s, %s)"

FACTS = "SELECT fleet.facts_v1(%s::text)"

INCOMPLETE = "SELECT fleet.incomplete_v1(%s, %s::text[], %s::text[], %s::timestamptz[])"

MAKE_SCHEMA = "CREATE SCHEMA IF NOT EXISTS fleet"

ENCODING = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer"

LOCK_MIGRATION = "SELECT pg_advisory_xact_lock(1768776044)"
"""One migration at a time; the lock goes with the transaction."""

REVISION = "SELECT version_num FROM fleet.alembic_version"

MAKE_PARTITIONS = "SELECT fleet.make_partitions(%s)"

PRUNE = "SELECT ranges, pointings, names, images FROM fleet.prune(%s)"

ENROLL = "SELECT fleet.enroll(%s, %s)"

REVOKE = "SELECT fleet.revoke(%s)"

ROLE_OF_NODE = """
SELECT role_name FROM fleet.nodes JOIN pg_roles ON rolname = role_name WHERE name = %s
"""

END_SESSIONS = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s"
"""End a role's sessions, and wait at most 10 s for each."""

KNOWN_DIGESTS = """
SELECT DISTINCT digest, kind FROM known_digests WHERE digest >= :low AND digest < :high ORDER BY digest LIMIT 11
"""
"""The image ids, targets and layers of a half-open range."""

REFERENCE_IMAGES = """
SELECT DISTINCT image_id FROM node_references WHERE reference = :value ORDER BY image_id LIMIT 11
"""

HOLDS_IMAGE = """
SELECT node, reference, image_id, target_digest, pinned, since FROM node_references
WHERE image_id = :value ORDER BY node, reference
"""

HOLDS_TARGET = """
SELECT node, reference, image_id, target_digest, pinned, since FROM node_references
WHERE target_digest = :value ORDER BY node, reference
"""

HOLDS_LAYER = """
SELECT node, reference, image_id, target_digest, pinned, since FROM node_references
WHERE image_id IN (SELECT image_id FROM layer_images WHERE diff_id = :value) ORDER BY node, reference
"""

HOLDS_REFERENCE = """
SELECT node, reference, image_id, target_digest, pinned, since FROM node_references
WHERE reference = :value ORDER BY node, reference
"""

LACKS_IMAGE = """
SELECT node, status, reported_at FROM node_status
WHERE status <> 'revoked' AND node NOT IN (
    SELECT node FROM node_references WHERE image_id = :value AND (NOT :pinned OR pinned)
) ORDER BY node
"""

LACKS_TARGET = """
SELECT node, status, reported_at FROM node_status
WHERE status <> 'revoked' AND node NOT IN (
    SELECT node FROM node_references WHERE target_digest = :value AND (NOT :pinned OR pinned)
) ORDER BY node
"""

LACKS_LAYER = """
SELECT node, status, reported_at FROM node_status
WHERE status <> 'revoked' AND node NOT IN (
    SELECT node FROM node_references
    WHERE image_id IN (SELECT image_id FROM layer_images WHERE diff_id = :value) AND (NOT :pinned OR pinned)
) ORDER BY node
"""

LACKS_REFERENCE = """
SELECT node, status, reported_at FROM node_status
WHERE status <> 'revoked' AND node NOT IN (
    SELECT node FROM node_references WHERE reference = :value AND (NOT :pinned OR pinned)
) ORDER BY node
"""

DRIFT = """
SELECT reference, image_id, target_digest, nodes FROM tag_drift ORDER BY reference, nodes DESC, image_id
"""

DRIFT_OF_REFERENCE = """
SELECT reference, image_id, target_digest, nodes FROM tag_drift
WHERE reference = :value ORDER BY reference, nodes DESC, image_id
"""

DRIFT_OF_REPOSITORY = """
SELECT reference, image_id, target_digest, nodes FROM tag_drift
WHERE repository = :value ORDER BY reference, nodes DESC, image_id
"""

STATUS = """
SELECT node, status, reported_at, epoch, sequence, version, hash_repairs, incomplete FROM node_status ORDER BY node
"""

TOTALS = """
SELECT nodes, silent_nodes, conflicted_nodes, node_references, pinned_references, images, node_images, bytes
FROM fleet_totals
"""

TOP = """
SELECT image_id, nodes, bytes, reference FROM image_totals ORDER BY bytes DESC, image_id LIMIT :rows
"""

CONFLICTS = """
SELECT node, kind, image_id, detail, at FROM node_conflicts ORDER BY at DESC
"""

SILENT = """
SELECT node, status, reported_at FROM node_status
WHERE status <> 'revoked' AND (reported_at IS NULL OR reported_at < :before) ORDER BY reported_at, node
"""

AT = """
SELECT reference, image_id, target_digest, pinned, since FROM node_references_at(:node, :time) ORDER BY reference
"""

KNOWS_NODE = """
SELECT node FROM node_status WHERE node = :node
"""

ROLLOUT = """
SELECT hour, gained, lost, nodes FROM image_rollout(:value) ORDER BY hour
"""

BE_A_READER = "SET ROLE imagekeep_reader"

ONE_STATE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = ('fleet.' || quote_ident(%s))::regclass AND attnum > 0 ORDER BY attnum
"""

COPY = "COPY (SELECT * FROM fleet.{}) TO STDOUT WITH (FORMAT csv, HEADER true)"
