"""Create the tables of the image store, and the views.

Revision: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPLICATION_ID = 0x696D6B70

STATEMENTS = (
    """\
CREATE TABLE images ( /* one row is an image on this host */
    image_key INTEGER NOT NULL /* this file's own number for the image */,
    id TEXT NOT NULL /* digest of the config document: sha256: and 64 hex */,
    chain_id TEXT NOT NULL /* identifies the ordered layers; empty without layers */,
    size INTEGER NOT NULL /* compressed bytes: index, manifest, config, layers */,
    PRIMARY KEY (image_key),
    CONSTRAINT images_id_is_unique UNIQUE (id),
    CONSTRAINT images_id_is_a_digest
        CHECK (substr(id, 1, 7) || length(id)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(id, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(id) = length(CAST(id AS BLOB)))
) STRICT""",
    """\
CREATE TABLE configs ( /* apart from images, so that lists need not read past it */
    image_key INTEGER NOT NULL,
    document BLOB NOT NULL /* the config, byte for byte; holds the environment */,
    PRIMARY KEY (image_key),
    CONSTRAINT configs_belong_to_an_image
        FOREIGN KEY(image_key) REFERENCES images (image_key) ON DELETE CASCADE
) STRICT""",
    """\
CREATE TABLE "references" ( /* one row is one name of one image */
    name TEXT NOT NULL /* as the source spells it */,
    image_key INTEGER NOT NULL,
    sort_rank INTEGER NOT NULL /* 0 tag and digest, 1 tag, 2 digest, 3 name, 4 id, 5 other */,
    sort_name TEXT /* canonical spelling, where not the name; order by rank, this */,
    PRIMARY KEY (name),
    CONSTRAINT references_of_an_image UNIQUE (image_key, name),
    CONSTRAINT references_have_a_name
        CHECK (length(CAST(name AS BLOB)) BETWEEN 1 AND 32768),
    CONSTRAINT references_have_a_sort_rank
        CHECK (sort_rank BETWEEN 0 AND 5),
    CONSTRAINT references_name_an_image
        FOREIGN KEY(image_key) REFERENCES images (image_key) ON DELETE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE pinned_refs ( /* one row is a reference that keeps its image from garbage collection */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    PRIMARY KEY (reference),
    CONSTRAINT pinned_refs_are_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE
) WITHOUT ROWID, STRICT""",
    """\
CREATE TABLE ref_cache ( /* one row is what the source last said of a reference, and when */
    reference TEXT NOT NULL,
    image_key INTEGER NOT NULL,
    target_digest TEXT NOT NULL /* of the manifest or index it points at */,
    platform TEXT NOT NULL /* for which the image was chosen beneath the target */,
    verified_at INTEGER NOT NULL /* microseconds since 1970, UTC */,
    PRIMARY KEY (reference),
    CONSTRAINT ref_cache_agrees_with_references
        FOREIGN KEY(image_key, reference) REFERENCES "references" (image_key, name) ON DELETE CASCADE ON UPDATE CASCADE,
    CONSTRAINT ref_cache_target_is_a_digest
        CHECK (substr(target_digest, 1, 7) || length(target_digest)
            IN ('sha256:71', 'sha384:103', 'sha512:135')
            AND substr(target_digest, 8) NOT GLOB '*[^0-9a-f]*'
            AND length(target_digest) = length(CAST(target_digest AS BLOB)))
) WITHOUT ROWID, STRICT""",
    """\
CREATE TRIGGER an_image_goes_with_its_last_reference
AFTER DELETE ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    """\
CREATE TRIGGER an_image_goes_when_its_last_reference_moves
AFTER UPDATE OF image_key ON "references"
WHEN NOT EXISTS (SELECT 1 FROM "references" WHERE image_key = OLD.image_key)
BEGIN
    DELETE FROM images WHERE image_key = OLD.image_key;
END""",
    """\
CREATE TRIGGER a_reference_is_not_replaced
BEFORE INSERT ON "references" /* REPLACE fires no trigger on what it deletes: the old image would stay */
WHEN EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name AND image_key <> NEW.image_key)
BEGIN
    SELECT RAISE(ABORT, 'references.name: names another image; UPDATE its image_key');
END""",
    """\
CREATE TRIGGER a_reference_takes_no_name_of_another
BEFORE UPDATE OF name ON "references" /* for the same reason: UPDATE OR REPLACE */
WHEN NEW.name <> OLD.name AND EXISTS (SELECT 1 FROM "references" WHERE name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, 'references.name: is taken');
END""",
    """\
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
    """\
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
    """\
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
)


def upgrade() -> None:
    op.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for view in ("config_list", "reference_list", "image_list"):
        op.execute(f"DROP VIEW {view}")
    for table in ("ref_cache", "pinned_refs", '"references"', "configs", "images"):
        op.execute(f"DROP TABLE {table}")
