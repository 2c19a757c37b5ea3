"""Add the watcher's status, and the references that could not be read.

Revision: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """\
CREATE TABLE incomplete_refs ( /* one row is a reference at the source whose image cannot be read, or not yet */
    reference TEXT NOT NULL,
    error TEXT NOT NULL /* why its image could not be read when last tried */,
    since INTEGER NOT NULL /* microseconds since 1970, UTC */,
    tried_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (reference)
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE watcher ( /* how far the last watcher of the source has come */
    watcher_key INTEGER NOT NULL,
    process_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    started_at INTEGER NOT NULL /* microseconds since 1970, UTC, as all times here */,
    connected_at INTEGER /* null while the source's events are not heard */,
    last_event_at INTEGER,
    last_reconcile_at INTEGER,
    events INTEGER NOT NULL,
    reconciles INTEGER NOT NULL,
    changes INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    last_error TEXT,
    stopped_at INTEGER /* null while it runs, or when it was killed */,
    PRIMARY KEY (watcher_key),
    CONSTRAINT watcher_is_one_row
        CHECK (watcher_key = 1)
) STRICT""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE watcher")
    op.execute("DROP TABLE incomplete_refs")
