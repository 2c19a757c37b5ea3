"""Add reference_history, append-only: what each reference named, and when.

The history of an upgraded store begins with a `recorded` row for each reference, at the time when the source last
confirmed it, or at the time of the upgrade if no source has.

Revision: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """\
CREATE TABLE reference_history ( /* append-only: a row is a change to a reference, written with it */
    sequence INTEGER NOT NULL /* grows with time */,
    reference TEXT NOT NULL,
    image_id TEXT NOT NULL /* named from then on; when vanished, until then */,
    target_digest TEXT /* null where no source was asked */,
    pinned INTEGER NOT NULL /* whether the reference pins the image from then on */,
    event TEXT NOT NULL,
    at INTEGER NOT NULL /* microseconds since 1970, UTC */,
    PRIMARY KEY (sequence),
    CONSTRAINT reference_history_events
        CHECK (event IN ('recorded', 'new', 'moved', 'retargeted', 'pinned', 'unpinned', 'vanished')),
    CONSTRAINT reference_history_pinned_is_a_truth
        CHECK (pinned IN (0, 1))
) STRICT""",
    """\
CREATE INDEX reference_history_by_reference ON reference_history (reference)""",
    """\
CREATE TRIGGER reference_history_is_not_rewritten
BEFORE UPDATE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE TRIGGER reference_history_is_not_shortened
BEFORE DELETE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE TRIGGER reference_history_is_not_replaced
BEFORE INSERT ON reference_history
WHEN NEW.sequence > 0 AND EXISTS (SELECT 1 FROM reference_history WHERE sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    """\
CREATE VIEW history_list AS /* one row a change to a reference, the newest last */
SELECT
    sequence,
    strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000000.0, 'unixepoch') AS time,
    reference,
    event,
    image_id,
    target_digest,
    pinned
FROM reference_history""",
)

RECORD_WHAT_IS_HERE = """\
INSERT INTO reference_history (reference, image_id, target_digest, pinned, event, at)
SELECT
    "references".name,
    images.id,
    ref_cache.target_digest,
    pinned_refs.reference IS NOT NULL,
    'recorded',
    coalesce(ref_cache.verified_at, CAST(strftime('%s', 'now') AS INTEGER) * 1000000)
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = "references".name
LEFT JOIN pinned_refs ON pinned_refs.reference = "references".name
ORDER BY 6, 1"""


def upgrade() -> None:
    for statement in (*STATEMENTS, RECORD_WHAT_IS_HERE):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW history_list")
    op.execute("DROP TABLE reference_history")
