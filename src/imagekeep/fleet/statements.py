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

FACTS = "SELECT fleet.facts_v1(%s::jsonb)"

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

NODE_OF = "SELECT role_name FROM fleet.nodes WHERE name = %s"
