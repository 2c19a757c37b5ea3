"""The schema of the newest revision, in SQLAlchemy Core: what the store writes through.

::

    images ─┬─< references ─┬─ pinned_refs    (at most one a reference)
            │               └─ ref_cache      (at most one a reference)
            └── configs                       (exactly one an image)
    reference_history                         (append-only; outlives what it tells of)
    incomplete_refs                           (what a source has and the store could not read)
    watcher                                   (at most one row)
    identity                                  (exactly one row)
    image_filesystem                          (at most one row)

What SQLite holds by itself: a reference names one image; a pin and a cache row belong to a reference, agree
with it on the image, move with it and go with it; when an image's last reference goes, the image goes. What
it cannot hold (an image put in with no reference; an id that is the digest of its config), `imagekeep db
check` looks at. The comments below are part of the file: `sqlite3 images.db .schema` shows them.

The file is made by the migrations; a test compares the two, statement by statement, in sqlite_schema.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BLOB,
    DDL,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateColumn, CreateTable

from imagekeep.database.constraints import CHECKS

metadata = MetaData()


@compiles(CreateColumn, "sqlite")
def _column_with_comment(element: CreateColumn, compiler: Any, **options: Any) -> str:
    """Keep a column's comment in the file itself, where a reader of `.schema` finds it."""
    text: str = compiler.visit_create_column(element, **options)
    return f"{text} /* {element.element.comment} */" if text and element.element.comment else text


@compiles(CreateTable, "sqlite")
def _table_with_comment(element: CreateTable, compiler: Any, **options: Any) -> str:
    """Keep a table's comment in the file itself, and the statement in a shape that reads well."""
    text: str = compiler.visit_create_table(element, **options).strip()
    for ugly, plain in _SHAPES.items():
        text = text.replace(ugly, plain)
    comment = element.element.comment
    return text.replace("(", f"( /* {comment} */", 1) if comment else text


_SHAPES = {
    ", \n\t": ",\n    ",
    "(\n\t": "(\n    ",
    "\n)\n WITHOUT ROWID,\n STRICT": "\n) WITHOUT ROWID, STRICT",
    "\n)\n STRICT": "\n) STRICT",
    # On one line from here: SQLAlchemy before 2.0.54 reads no foreign key across lines back.
    " FOREIGN KEY(": "\n        FOREIGN KEY(",
    " CHECK (": "\n        CHECK (",
}


def _check(name: str) -> CheckConstraint:
    """Return the constraint of this name."""
    return CheckConstraint(CHECKS[name].condition, name=name)


images = Table(
    "images",
    metadata,
    Column("image_key", Integer, primary_key=True, comment="this file's own number for the image"),
    Column("id", Text, nullable=False, comment="digest of the config document: sha256: and 64 hex"),
    Column("chain_id", Text, nullable=False, comment="identifies the ordered layers; empty without layers"),
    Column("size", Integer, nullable=False, comment="compressed bytes: index, manifest, config, layers"),
    UniqueConstraint("id", name="images_id_is_unique"),
    _check("images_id_is_a_digest"),
    sqlite_strict=True,
    comment="one row is an image on this host",
)

configs = Table(
    "configs",
    metadata,
    Column("image_key", Integer, primary_key=True),
    Column("document", BLOB, nullable=False, comment="the config, byte for byte; holds the environment"),
    ForeignKeyConstraint(
        ["image_key"], ["images.image_key"], name="configs_belong_to_an_image", ondelete="CASCADE"
    ),
    sqlite_strict=True,
    comment="apart from images, so that lists need not read past it",
)

references = Table(
    "references",
    metadata,
    Column("name", Text, primary_key=True, nullable=False, comment="as the source spells it"),
    Column("image_key", Integer, nullable=False),
    Column(
        "sort_rank",
        Integer,
        nullable=False,
        comment="0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other",
    ),
    Column("sort_name", Text, comment="canonical spelling, where not the name; order by rank, this"),
    UniqueConstraint("image_key", "name", name="references_of_an_image"),
    _check("references_have_a_name"),
    _check("references_have_a_sort_rank"),
    ForeignKeyConstraint(
        ["image_key"], ["images.image_key"], name="references_name_an_image", ondelete="CASCADE"
    ),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is one name of one image",
)


def _belongs_to_a_reference(name: str) -> ForeignKeyConstraint:
    """Return the constraint that ties a row to a reference and to that reference's image."""
    return ForeignKeyConstraint(
        ["image_key", "reference"],
        ["references.image_key", "references.name"],
        name=name,
        onupdate="CASCADE",
        ondelete="CASCADE",
    )


pinned_refs = Table(
    "pinned_refs",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("image_key", Integer, nullable=False),
    _belongs_to_a_reference("pinned_refs_are_references"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a reference that keeps its image from garbage collection",
)

ref_cache = Table(
    "ref_cache",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("image_key", Integer, nullable=False),
    Column("target_digest", Text, nullable=False, comment="of the manifest or index it points at"),
    Column("platform", Text, nullable=False, comment="for which the image was chosen beneath the target"),
    Column("verified_at", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    _belongs_to_a_reference("ref_cache_agrees_with_references"),
    _check("ref_cache_target_is_a_digest"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is what the source last said of a reference, and when",
)

reference_history = Table(
    "reference_history",
    metadata,
    Column("sequence", Integer, primary_key=True, comment="grows with time"),
    Column("reference", Text, nullable=False),
    Column(
        "image_id",
        Text,
        nullable=False,
        comment="named from then on; when vanished, until then",
    ),
    Column("target_digest", Text, comment="null where no source was asked"),
    Column("pinned", Integer, nullable=False, comment="whether the reference pins the image from then on"),
    Column("event", Text, nullable=False),
    Column("at", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    _check("reference_history_events"),
    _check("reference_history_pinned_is_a_truth"),
    Index("reference_history_by_reference", "reference"),
    sqlite_strict=True,
    comment="append-only: a row is a change to a reference, written with it",
)

incomplete_refs = Table(
    "incomplete_refs",
    metadata,
    Column("reference", Text, primary_key=True, nullable=False),
    Column("error", Text, nullable=False, comment="why its image could not be read when last tried"),
    Column("since", Integer, nullable=False, comment="microseconds since 1970, UTC"),
    Column("tried_at", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
    comment="one row is a reference at the source whose image cannot be read, or not yet",
)

watcher = Table(
    "watcher",
    metadata,
    Column("watcher_key", Integer, primary_key=True),
    Column("process_id", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("started_at", Integer, nullable=False, comment="microseconds since 1970, UTC, as all times here"),
    Column("connected_at", Integer, comment="null while the source's events are not heard"),
    Column("last_event_at", Integer),
    Column("last_reconcile_at", Integer),
    Column("events", Integer, nullable=False),
    Column("reconciles", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("last_error", Text),
    Column("stopped_at", Integer, comment="null while it runs, or when it was killed"),
    _check("watcher_is_one_row"),
    sqlite_strict=True,
    comment="how far the last watcher of the source has come",
)

identity = Table(
    "identity",
    metadata,
    Column("identity_key", Integer, primary_key=True),
    Column("store_id", Text, nullable=False, comment="32 random hex digits; a restored store gets new ones"),
    Column(
        "source",
        Text,
        comment="specifier of the source of the last sync of all references; null until then",
    ),
    Column("namespace", Text, comment="containerd's; null for other sources"),
    _check("identity_is_one_row"),
    sqlite_strict=True,
    comment="one row: which store this is, and which source it follows",
)

image_filesystem = Table(
    "image_filesystem",
    metadata,
    Column("filesystem_key", Integer, primary_key=True),
    Column("mountpoint", Text, nullable=False),
    Column("used_bytes", Integer, comment="null if the reply does not say"),
    Column("inodes_used", Integer),
    Column("at", Integer, nullable=False, comment="microseconds since 1970, UTC: the time in the reply"),
    _check("image_filesystem_is_one_row"),
    sqlite_strict=True,
    comment="at most one row: the last ImageFsInfo reply of the source",
)

FIRST_ROWS = ("INSERT INTO identity (identity_key, store_id) VALUES (1, lower(hex(randomblob(16))))",)
"""What a new store begins with."""

TRIGGERS = {
    "an_image_goes_with_its_last_reference": """\
CREATE TRIGGER an_image_goes_with_its_last_reference
AFTER DELETE ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    "an_image_goes_when_its_last_reference_moves": """\
CREATE TRIGGER an_image_goes_when_its_last_reference_moves
AFTER UPDATE OF image_key ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    "a_reference_is_not_replaced": """\
CREATE TRIGGER a_reference_is_not_replaced
BEFORE INSERT ON "references" /* REPLACE fires no trigger on what it deletes: the old image would stay */
WHEN EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name AND image_key <> NEW.image_key)
BEGIN
    SELECT RAISE(ABORT, 'references.name: names another image; UPDATE its image_key');
END""",
    "a_reference_takes_no_name_of_another": """\
CREATE TRIGGER a_reference_takes_no_name_of_another
BEFORE UPDATE OF name ON "references" /* for the same reason: UPDATE OR REPLACE */
WHEN NEW.name <> OLD.name AND EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'references.name: is taken');
END""",
    "reference_history_is_not_rewritten": """\
CREATE TRIGGER reference_history_is_not_rewritten
BEFORE UPDATE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    "reference_history_is_not_shortened": """\
CREATE TRIGGER reference_history_is_not_shortened
BEFORE DELETE ON reference_history
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
    "reference_history_is_not_replaced": """\
CREATE TRIGGER reference_history_is_not_replaced
BEFORE INSERT ON reference_history
WHEN NEW.sequence > 0 AND EXISTS (SELECT 1 FROM reference_history WHERE sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'reference_history is append-only');
END""",
}

# The views never show a config's Env or Labels: both are where people put secrets.
VIEWS = {
    "image_list": """\
CREATE VIEW image_list AS /* one row an image; its references as a JSON array, in order */
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
        SELECT 1 FROM "references" JOIN pinned_refs ON pinned_refs.reference = "references".name
        WHERE "references".image_key = images.image_key
    ) AS pinned,
    images.chain_id
FROM images""",
    "reference_list": """\
CREATE VIEW reference_list AS /* one row a reference: its image, its target, its pin, its age */
SELECT
    "references".name AS reference,
    images.id AS image_id,
    ref_cache.target_digest,
    pinned_refs.reference IS NOT NULL AS pinned,
    strftime('%Y-%m-%dT%H:%M:%fZ', ref_cache.verified_at / 1000000.0, 'unixepoch') AS verified
FROM "references"
JOIN images ON images.image_key = "references".image_key
LEFT JOIN ref_cache ON ref_cache.reference = "references".name
LEFT JOIN pinned_refs ON pinned_refs.reference = "references".name""",
    "config_list": """\
CREATE VIEW config_list AS /* one row an image: what its config says, but for Env and Labels */
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
    FROM images JOIN configs ON configs.image_key = images.image_key
)""",
    "history_list": """\
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
}

for statement in (*TRIGGERS.values(), *VIEWS.values(), *FIRST_ROWS):
    event.listen(metadata, "after_create", DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]
