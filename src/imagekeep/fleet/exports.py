"""A fleet of exported stores, without a centre: the same questions, asked of ten or a hundred files.

The files of `imagekeep db export` are read into a SQLite database in memory that has the views of the contract. It
knows no past of the fleet, no conflicts, and only when a file was written: not when its node last reported.
"""

from __future__ import annotations

import glob
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagekeep.database.driver import sqlite
from imagekeep.errors import ImagekeepError, InvalidArgumentError, UnavailableError, printable
from imagekeep.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagekeep.fleet.questions import Row

SCHEMA = """
CREATE TABLE node_status (
    node TEXT PRIMARY KEY, status TEXT, reported_at TEXT, epoch INTEGER, sequence INTEGER, version TEXT,
    hash_repairs INTEGER, incomplete INTEGER
);
CREATE TABLE incomplete_references (node TEXT, reference TEXT, error TEXT, since TEXT);
CREATE TABLE node_references (
    node TEXT, reference TEXT, image_id TEXT, target_digest TEXT, pinned INTEGER, size INTEGER, repository TEXT,
    tag TEXT, since TEXT, said_at TEXT, PRIMARY KEY (node, reference)
);
CREATE INDEX by_image ON node_references (image_id);
CREATE INDEX by_target ON node_references (target_digest);
CREATE INDEX by_reference ON node_references (reference);
CREATE TABLE images (
    id TEXT PRIMARY KEY, chain_id TEXT, os TEXT, architecture TEXT, variant TEXT, created TEXT
);
CREATE TABLE layer_images (diff_id TEXT, image_id TEXT, position INTEGER, PRIMARY KEY (image_id, position));
CREATE INDEX by_layer ON layer_images (diff_id);
CREATE TABLE node_conflicts (node TEXT, kind TEXT, image_id TEXT, detail TEXT, at TEXT);
CREATE VIEW silent_nodes AS SELECT node, status, reported_at FROM node_status
WHERE reported_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour');
CREATE VIEW known_digests AS
SELECT id AS digest, 'image' AS kind FROM images
UNION ALL SELECT target_digest, 'target' FROM node_references WHERE target_digest IS NOT NULL
UNION ALL SELECT diff_id, 'layer' FROM layer_images;
CREATE VIEW node_images AS
SELECT node, id, json_group_array(reference) AS reference_names, size, max(pinned) AS pinned, chain_id, os,
    architecture, variant, created
FROM node_references JOIN images ON id = image_id GROUP BY node, id;
CREATE VIEW layer_nodes AS
SELECT DISTINCT diff_id, node, layer_images.image_id
FROM layer_images JOIN node_references ON node_references.image_id = layer_images.image_id;
CREATE VIEW tag_drift AS
WITH pointings AS (
    SELECT reference, repository, tag, image_id, target_digest, count(*) AS nodes
    FROM node_references GROUP BY 1, 2, 3, 4, 5
), variants AS (
    SELECT *, coalesce(target_digest, max(target_digest) OVER (PARTITION BY reference, image_id), image_id)
        AS variant
    FROM pointings
), compared AS (
    SELECT *, min(variant) OVER (PARTITION BY reference) <> max(variant) OVER (PARTITION BY reference) AS drifts
    FROM variants
)
SELECT reference, repository, tag, image_id, target_digest, nodes FROM compared WHERE drifts;
CREATE VIEW image_totals AS
SELECT image_id, count(*) AS nodes, sum(size) AS bytes, min(reference) AS reference
FROM (SELECT image_id, node, max(size) AS size, min(reference) AS reference FROM node_references GROUP BY 1, 2)
GROUP BY image_id;
CREATE VIEW fleet_totals AS
SELECT
    (SELECT count(*) FROM node_status) AS nodes,
    (SELECT count(*) FROM silent_nodes) AS silent_nodes,
    0 AS conflicted_nodes,
    (SELECT count(*) FROM node_references) AS node_references,
    (SELECT count(*) FROM node_references WHERE pinned) AS pinned_references,
    count(*) AS images,
    coalesce(sum(nodes), 0) AS node_images,
    coalesce(sum(bytes), 0) AS bytes
FROM image_totals;
"""

_ADD_NODE = "INSERT INTO node_status VALUES (?, 'active', ?, NULL, NULL, NULL, 0, ?)"
_ADD_REFERENCE = "INSERT INTO node_references VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"
_ADD_IMAGE = "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)"
_ADD_LAYER = "INSERT INTO layer_images VALUES (?, ?, ?)"
_ADD_INCOMPLETE = "INSERT INTO incomplete_references VALUES (?, ?, ?, ?)"

BOOLEANS = frozenset(("pinned",))
"""Columns whose 0 and 1 are false and true."""


class ExportedFleet:
    """Exported stores that answer questions."""

    dated = False

    def __init__(self, connection: sqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    def read(cls, pattern: str) -> ExportedFleet:
        """Read the stores that a shell pattern names; a node is called as its file, without the suffix.

        Raises UnavailableError if there are none, InvalidArgumentError for two of one name, and as `Reader.open`.
        """
        paths = [Path(name) for name in sorted(glob.glob(pattern))]  # noqa: PTH207 (an absolute pattern is possible)
        if not paths:
            raise UnavailableError(
                f"no export matches {printable(pattern)} (make them with `imagekeep db export`)"
            )
        connection = sqlite.connect(":memory:")
        connection.executescript(SCHEMA)
        names: dict[str, Path] = {}
        known: set[str] = set()
        for path in paths:
            if path.stem in names:
                raise InvalidArgumentError(
                    f"{printable(path)} and {printable(names[path.stem])} name one node"
                )
            names[path.stem] = path
            _add_store(connection, path, known)
        connection.commit()
        connection.execute("PRAGMA query_only = ON")
        return cls(connection)

    def rows(self, statement: str, **parameters: Any) -> list[Row]:
        """Return the rows of a statement."""
        given = {name: _as_text(value) for name, value in parameters.items()}
        cursor = self._connection.execute(statement, given)
        names = [column[0] for column in cursor.description]
        found: list[Row] = cursor.fetchall()
        if BOOLEANS.isdisjoint(names):
            return found
        return [
            tuple(bool(v) if n in BOOLEANS else v for n, v in zip(names, row, strict=True)) for row in found
        ]


def _add_store(connection: sqlite.Connection, path: Path, known: set[str]) -> None:
    node = path.stem
    with Reader.open(path) as reader:
        sizes = {image.id: image.size for image in reader.summaries()}
        incomplete = reader.incomplete()
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        connection.execute(_ADD_NODE, (node, _as_text(written), len(incomplete)))
        connection.executemany(
            _ADD_INCOMPLETE, [(node, each.reference, each.error, _as_text(each.since)) for each in incomplete]
        )
        connection.executemany(
            _ADD_REFERENCE,
            [
                (
                    node,
                    name,
                    state.image_id,
                    state.target_digest,
                    state.pinned,
                    sizes.get(state.image_id),
                    *_parts(name),
                )
                for name, state in reader.states().items()
            ],
        )
        for image_id in sizes.keys() - known:
            _add_facts(connection, reader, image_id)
        known.update(sizes)


def _add_facts(connection: sqlite.Connection, reader: Reader, image_id: str) -> None:
    facts: Sequence[str | None] = (None, None, None, None)
    layers: Sequence[str] = ()
    image = reader.get(image_id)
    try:
        config = image.config
    except ImagekeepError:  # not a config that containerd could read; the image is known all the same
        pass
    else:
        facts = config.get("os"), config.get("architecture"), config.get("variant"), config.get("created")
        layers = config["rootfs"]["diff_ids"] or ()
    connection.execute(_ADD_IMAGE, (image_id, image.chain_id, *facts))
    connection.executemany(_ADD_LAYER, [(layer, image_id, place) for place, layer in enumerate(layers)])


def _parts(name: str) -> tuple[str | None, str | None]:
    """Return the repository and tag of a name as the centre's table of names has them."""
    if name.startswith(("sha256:", "sha384:", "sha512:")):
        return None, None
    repository = name.rpartition("@")[0] or name
    head, colon, tag = repository.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (repository, None)


def _as_text(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
