"""Add a store's id and source, and the last report about the filesystem of the source's images.

An upgraded store gets a random id; its source is unknown until its next sync of all references.

Revision: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """\
CREATE TABLE identity ( /* one row: which store this is, and which source it follows */
    identity_key INTEGER NOT NULL,
    store_id TEXT NOT NULL /* 32 random hex digits; a restored store gets new ones */,
    source TEXT /* specifier of the source of the last sync of all references; null until then */,
    namespace TEXT /* containerd's; null for other sources */,
    PRIMARY KEY (identity_key),
    CONSTRAINT identity_is_one_row
        CHECK (identity_key = 1)
) STRICT""",
    """\
CREATE TABLE image_filesystem ( /* at most one row: the last ImageFsInfo reply of the source */
    filesystem_key INTEGER NOT NULL,
    mountpoint TEXT NOT NULL,
    used_bytes INTEGER /* null if the reply does not say */,
    inodes_used INTEGER,
    at INTEGER NOT NULL /* microseconds since 1970, UTC: the time in the reply */,
    PRIMARY KEY (filesystem_key),
    CONSTRAINT image_filesystem_is_one_row
        CHECK (filesystem_key = 1)
) STRICT""",
    "INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE image_filesystem")
    op.execute("DROP TABLE identity")
