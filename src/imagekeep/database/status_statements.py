"""Statements of a store's identity and status: its source, its watcher, and what could not be read."""

INCOMPLETE_REFERENCES = """
SELECT reference, substr(error, 1, 4096), since, tried_at, tries FROM incomplete_refs
WHERE length(CAST(reference AS BLOB)) <= 32768
ORDER BY reference LIMIT 10000
"""
"""The references that could not be read, limited: a forged store may hold any number of rows, of any length."""

WATCHER = """
SELECT
    process_id, substr(source, 1, 4096), started_at, connected_at, last_event_at, last_reconcile_at,
    events, reconciles, changes, errors, substr(last_error, 1, 4096), stopped_at
FROM watcher LIMIT 1
"""

IMAGE_FILESYSTEM = "SELECT mountpoint, used_bytes, inodes_used, at FROM image_filesystem"

IDENTITY = """
SELECT substr(store_id, 1, 64), substr(source, 1, 8192), substr(namespace, 1, 8192) FROM identity LIMIT 2
"""

FOLLOW_SOURCE = """
INSERT INTO identity (identity_key, store_id, source, namespace)
VALUES (1, lower(hex(randomblob(16))), :source, :namespace)
ON CONFLICT (identity_key) DO UPDATE SET source = excluded.source, namespace = excluded.namespace
"""
"""Keeps the store id; creates one only if the row was deleted."""

RENEW_STORE_ID = """
INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))
ON CONFLICT (identity_key) DO UPDATE SET store_id = excluded.store_id
"""
"""Gives a copy that becomes a store an id of its own."""

ANY_INCOMPLETE = """
SELECT EXISTS (SELECT 1 FROM incomplete_refs)
"""

REMOVE_INCOMPLETE = """
DELETE FROM incomplete_refs WHERE reference = :reference
"""

RECORD_INCOMPLETE = """
INSERT INTO incomplete_refs (reference, error, since, tried_at, tries)
VALUES (:reference, :error, :since, :tried_at, :tries)
ON CONFLICT (reference) DO UPDATE
SET error = excluded.error, tried_at = excluded.tried_at, tries = tries + 1
"""

RECORD_WATCHER = """
INSERT OR REPLACE INTO watcher (
    watcher_key, process_id, source, started_at, connected_at, last_event_at, last_reconcile_at,
    events, reconciles, changes, errors, last_error, stopped_at
)
VALUES (
    :watcher_key, :process_id, :source, :started_at, :connected_at, :last_event_at, :last_reconcile_at,
    :events, :reconciles, :changes, :errors, :last_error, :stopped_at
)
"""

RECORD_IMAGE_FILESYSTEM = """
INSERT OR REPLACE INTO image_filesystem (filesystem_key, mountpoint, used_bytes, inodes_used, at)
VALUES (:filesystem_key, :mountpoint, :used_bytes, :inodes_used, :at)
"""
