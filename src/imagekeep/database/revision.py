"""Checks that a file is a store, and that its schema is the one its revision created.

A file can carry imagekeep's application id and revision and still be something else: a damaged schema, or a view
named `images` that never ends. The text of every statement is known for each revision, so each object is compared
by a digest of its own and can be named. Other programs' objects are fine (SQLite's statistics, Litestream's tables,
an operator's index or view) unless they run inside imagekeep's own statements: a trigger on one of its tables or
views, or an object whose name hides one of SQLite's table-valued functions.

This runs at every opening, so nothing here imports alembic; a test compares REVISIONS with the migrations.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from imagekeep.database import statements
from imagekeep.database.blake2 import blake2b
from imagekeep.database.files import look, require_openable_name
from imagekeep.database.trusted_files import require_regular
from imagekeep.errors import (
    CorruptStoreError,
    NewerSchemaError,
    NotAStoreError,
    SchemaVersionError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from imagekeep.database.driver import sqlite
    from imagekeep.database.files import Named

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every revision that this imagekeep knows, the oldest first; it reads and writes the last."""

HEAD = REVISIONS[-1]

CONTRACT = 1
"""Version of the views, as SQLite's user_version: raised only where a view or column is removed or changed."""

APPLICATION_ID = 0x696D6B70
"""Marks a SQLite file as imagekeep's ("imkp"); a file with another mark is never written."""

UNKNOWN_WAIT = 10.0
"""Seconds that statements may take on a schema that is not imagekeep's."""

_STEPS = 10_000
"""Steps of SQLite's virtual machine between two looks at the clock: less than a millisecond."""

_RESTORE = "see `imagekeep db check`; restore a backup, or remove the store and sync again"

_HEADER_BYTES = 100

LONGEST_TEXT = 16_384
"""Characters read of an object's name or statement; imagekeep's own have at most 4,000."""

MOST_OBJECTS = 1_000
"""Rows read of sqlite_schema; imagekeep's own come first in a store that was migrated."""

SHOWN = 5
"""Differences that an error names."""

_MADE_BY: dict[str, dict[str, str | None]] = {
    "0001": {
        "table alembic_version": "1bee53d3b39f1b0c05e9da6085a661c3",
        "table images": "6fddfb31686615019afde8f8b1eb79e7",
        "table configs": "9b7f85409686bdd64604b97cf559b191",
        "table references": "f03b392a6de5328effbaa5c509a3ec90",
        "table pinned_refs": "148a37af18cca22078e6ae0fe992e9bd",
        "table ref_cache": "02f4f9f576ce95e38c937e95a6603748",
        "trigger an_image_goes_with_its_last_reference": "43b1a4551b085d817b05eecf9bb92e49",
        "trigger an_image_goes_when_its_last_reference_moves": "4b1e933eeb342175b00d50ba97045982",
        "trigger a_reference_is_not_replaced": "c1767246c5ba724170f4e8c67742d6cd",
        "trigger a_reference_takes_no_name_of_another": "369ef302b60fae504f3e67d5298d3919",
        "view image_list": "6fd98257409b76b9fa137a5ee4f3aa0a",
        "view reference_list": "84981aa84dc892f5c8144f35966e0ccf",
        "view config_list": "38139418f4636bcddcddd529b98e5565",
    },
    "0002": {
        "table reference_history": "19cfe4b201f1609f603bc633d54c49bc",
        "index reference_history_by_reference": "b95ff4f6e880bc638ffaadd4f5f7bb3b",
        "trigger reference_history_is_not_rewritten": "95ec3b14eca8722e583c4183930a2d0c",
        "trigger reference_history_is_not_shortened": "be576305178f94ee020440b7b54035f5",
        "trigger reference_history_is_not_replaced": "74e383dfbd891a407d1cb473a6e6e374",
        "view history_list": "7cfe3c4900fc694e08e6c863093f59d8",
    },
    "0003": {
        "table incomplete_refs": "c8b1ca523f4b9398096a7088e51d5f98",
        "table watcher": "2e0948638960a32599cb4aec5d520a56",
    },
    "0004": {
        "table identity": "5e275656a1c477b92507683248a40737",
        "table image_filesystem": "6f1cae739700657b30602f4e297e4ec6",
    },
    "0005": {
        "table reference_history": "dacd55cb58f91d78429ef326c1a9cb30",
        "table platforms": "eb90037172e78db099d8789c2e922c1e",
        "table blobs": "42ad0c8045b43988b5f9887001924ada",
        "table documents": "70ee9134d1cd1c287608135b71cb54c2",
        "table chains": "bf0b0612f84f288044db7c015c72a98c",
        "table manifests": "eb352106c0719cf9ab881f3dfd3f189e",
        "index manifests_by_config": "2985a20aaa49d633aab4210401299f5b",
        "table manifest_layers": "d1619568ba06c93bf1a4040690f93af1",
        "table target_manifests": "10b1053df1acc43f8926fe72edced478",
        "index target_manifests_by_manifest": "3621f5e6f556e056d399b6a943b4e682",
        "table images": "09a79cc8a41e99c28ce816ad4b107c2e",
        "index images_by_config": "804a185bad751366deea85e302c6e83c",
        "table references": "d77735194f5e5b3333da81e7e6e271a1",
        "table pinned_refs": "6a2d5191191cf1e08124fcac391302da",
        "table ref_cache": "71021d1c67bc5e920c775c7f7a57113d",
        "index ref_cache_by_target": "d8d7cab97a4716ec890c7c86181c5580",
        "index ref_cache_by_manifest": "7507ba9982ceda4dfe167031494fda11",
        "table containers": "d37c55649a4259b367d63205cd4fa18c",
        "index containers_by_image": "613bef552252ead95bd79e921ed5c672",
        "table image_usage": "9a85a14b73769b8c58ed6a9a6f0587bb",
        "table content_look": "f3d3b1e1bdbd309c5ca4680c96c99182",
        "table history_cuts": "600ab17e86fa851801178f94aaabecf0",
        "trigger a_reference_is_not_replaced": "bde52174b0879605d45a3b598537332c",
        "trigger a_reference_takes_no_name_of_another": "61e407f282efdc521b634c564d645464",
        "trigger a_config_goes_with_its_last_image": "6f84f2447701fd0a383c1502053c3406",
        "trigger a_target_goes_with_its_last_reference": "1eb7c38115f9936b4c787d18ea3b3724",
        "trigger a_target_goes_when_its_last_reference_moves": "79d43842c340fed14ac88b122e9cbeda",
        "trigger a_manifest_goes_with_its_last_target": "5979c35f9587bb2908962bdc289e5384",
        "trigger a_config_goes_with_its_last_manifest": "05b2d22b997f598af0507dad68e964c2",
        "trigger a_layer_is_counted": "91a2d2856f316d82383985d152f74187",
        "trigger a_chain_that_becomes_known_is_counted": "f1e89606a70352ce5361df5598c6b7da",
        "trigger a_layer_is_not_rewritten": "dfeb40b91907ac11a351ab7dc9a42812",
        "trigger a_layer_goes_with_its_last_manifest": "54ce188aca55f92f040db4331c310d28",
        "trigger a_layer_that_is_used_stays": "11507c0c4b8e39eeef157dea6880ea32",
        "trigger a_chain_that_is_used_stays": "ced1484a63aa86d90482a5ee62e229af",
        "trigger reference_history_is_not_shortened": "389a96fa19e6ab71bb44bd9aff4d0137",
        "trigger history_cuts_are_not_rewritten": "1b52df0cb92751cd45c7e959a23fc476",
        "trigger history_cuts_are_not_removed": "ec223b83bf29e984e16e48fc8c87bf60",
        "view image_list": "d2339f85eac8edbe860524289f86d4c8",
        "view reference_list": "7405050e847a12014c98930be1569843",
        "view config_list": "daf2bf88f6d9d8033b230ea658fce0ef",
        "view history_list": "c39d8a6ac31cbb7f9e1731a4edd34294",
        "table configs": None,
    },
    "0006": {
        "view manifest_list": "9c380ff15e1871fd902efafc5f94e779",
        "view content_list": "bb04cb4aa73acb1327d0491a113f5f06",
        "view image_list": "91e155051c53be0aa0c26311826092f4",
        "view reference_list": "6683ca900fac9e03676ac1a9e7a98635",
        "view config_list": "51714867119ceb741427411cbd72c786",
        "view platform_list": "af7016535d516dbb748d3d113ed99fce",
        "view layer_list": "e21ab90189ccca41d094aca561b99e3b",
        "view size_list": "5d9eb9b80207594906b6ade0a9651c6a",
        "view container_list": "6441a31f580dfe925c1262aae152cf9c",
        "view usage_list": "f682486eeda90e2eeff011d23355820f",
        "view history_list": "40035888f774dd3e953489f28cd36225",
        "view pin_list": "1c9a457ffb30c50df3ea7d7de84fee20",
        "view gc_list": "ee695e3f8a53c6702516fcd4e7d1b0e7",
        "view incomplete_list": "b7b3d336339d9def760047ca63d71c9b",
        "view store_list": "c348eb4e074480afb605fc7b94ab1561",
    },
}
"""The digest of each object that a revision created or changed, by `type name`; None for one that it removed."""

_HIDING = ("json_", "pragma_")
"""Prefixes of the table-valued functions that imagekeep's statements use."""


class SchemaObject(NamedTuple):
    """One row of sqlite_schema; `sql` is None for an index that a constraint creates."""

    type: str
    name: str
    table: str
    sql: str | None

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


class Difference(NamedTuple):
    """An object that differs from the revision's: `type name`, and how."""

    object: str
    how: Literal["missing", "changed", "not imagekeep's"]

    def __str__(self) -> str:
        return f"{self.object} is {self.how}"


class Comparison(NamedTuple):
    """How a schema differs from its revision: differences are errors, other programs' objects are not."""

    differences: tuple[Difference, ...]
    others: tuple[SchemaObject, ...]


class Schema(NamedTuple):
    """The schema of a file: its revision, None before the first, and how its objects differ from it."""

    revision: str | None
    comparison: Comparison = Comparison((), ())


def exists(path: Path) -> bool:
    """Return whether there is a file that may be a store; raises as `find_store` does."""
    return find_store(path) is not None


def find_store(path: Path) -> Named | None:
    """Return the file at `path` if there is one; raise NotAStoreError if it cannot be a store.

    A symbolic link is refused: one program would put the lock file and SQLite's companions beside the link and
    another beside its target, and they would no longer exclude each other.
    """
    require_openable_name(path)
    found = look(str(path))
    if found is None:
        return None
    require_regular(found, NotAStoreError)
    # SQLite itself takes a file of one byte for an empty database, and overwrites it.
    if 0 < found.status.st_size < _HEADER_BYTES:
        raise NotAStoreError(f"store {printable(path)}: not a SQLite database; give another path")
    return found


def read_schema(cursor: sqlite.Cursor, path: Path) -> Schema:
    """Return the schema of a file, before anything else in it is read.

    Until the schema is known to be imagekeep's, statements on the connection are interrupted UNKNOWN_WAIT seconds
    from now: they may read a view that never ends. Raises NotAStoreError if the file is another program's, and
    CorruptStoreError if its table of revisions is changed or was emptied. SQLite's own errors pass.
    """
    bound_reads(cursor.connection)
    # In this order: a store that another process creates between the two has its mark when it has its tables.
    objects = read_objects(cursor)
    _require_application_id(cursor, objects, path)
    version_table = _version_table(objects)
    if version_table == "missing":
        schema = Schema(None)
    elif version_table == "changed":
        raise CorruptStoreError(f"store {printable(path)}: table alembic_version is changed ({_RESTORE})")
    else:
        revision = current_revision(cursor)
        if revision is None and _has_tables(objects):
            raise CorruptStoreError(f"store {printable(path)}: table alembic_version is empty ({_RESTORE})")
        schema = Schema(revision, compare(revision, objects)) if revision in REVISIONS else Schema(revision)
    if not schema.comparison.differences and (schema.revision in REVISIONS or not objects):
        lift_bound(cursor.connection)
    return schema


def find_revision(cursor: sqlite.Cursor, path: Path) -> str | None:
    """Return the revision of a file's schema, None before the first; raises as `read_schema` does."""
    return read_schema(cursor, path).revision


def current_revision(cursor: sqlite.Cursor) -> str | None:
    """Return the revision of a file that is known to be a store, or None. SQLite's own errors pass."""
    row = cursor.execute(statements.REVISION).fetchone()
    return str(row[0]) if row else None


def bound_reads(connection: sqlite.Connection) -> None:
    """Interrupt statements on the connection UNKNOWN_WAIT seconds from now."""
    deadline = time.monotonic() + UNKNOWN_WAIT
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)


def lift_bound(connection: sqlite.Connection) -> None:
    """Let statements on the connection run for as long as they need."""
    connection.set_progress_handler(None, 0)


def require_current(schema: Schema, path: Path) -> None:
    """Raise unless a store has exactly the schema of HEAD; raises as `require_head` and `require_unchanged`."""
    require_head(schema.revision, path)
    require_unchanged(schema, path)


def require_unchanged(schema: Schema, path: Path) -> None:
    """Raise CorruptStoreError, naming the objects, if a schema differs from its revision's."""
    if schema.comparison.differences:
        raise CorruptStoreError(
            f"store {printable(path)}: schema is not that of revision {schema.revision}: "
            f"{printable(describe(schema.comparison.differences), 1000)} ({_RESTORE})"
        )


def require_head(revision: str | None, path: Path) -> None:
    """Raise SchemaVersionError, naming both revisions and what to do, unless the revision is HEAD."""
    if revision == HEAD:
        return
    store = printable(path)
    if revision is None or revision in REVISIONS:
        raise SchemaVersionError(
            f"store {store}: its schema is revision {revision or 'base'}, this imagekeep needs {HEAD}; "
            f"run `imagekeep --store {store} db migrate`"
        )
    require_known(revision, path)


def require_known(revision: str | None, path: Path) -> None:
    """Raise NewerSchemaError if this imagekeep does not know the revision."""
    if revision is not None and revision not in REVISIONS:
        raise NewerSchemaError(
            f"store {printable(path)}: its schema is revision {printable(revision)}, newer than {HEAD}, the "
            "newest that this imagekeep knows; install the imagekeep that wrote it, or a later one"
        )


def read_objects(cursor: sqlite.Cursor) -> tuple[SchemaObject, ...]:
    """Return the rows of sqlite_schema, long texts cut. SQLite's own errors pass."""
    global _last
    rows = cursor.execute(statements.SCHEMA_OBJECTS, (LONGEST_TEXT, MOST_OBJECTS)).fetchall()
    last_rows, objects = _last
    if rows != last_rows:
        objects = tuple(_schema_object(*row) for row in rows)
        _last = rows, objects
    return objects


_last: tuple[list[tuple[object, ...]], tuple[SchemaObject, ...]] = ([], ())
"""What was read last, which every later opening of a store most likely reads again."""


def _schema_object(kind: object, name: object, table: object, sql: object) -> SchemaObject:
    """Return a row as an object; in a damaged file a value may have any type."""
    statement = sql if isinstance(sql, str) or sql is None else ""
    return SchemaObject(_as_text(kind), _as_text(name), _as_text(table), statement)


def _as_text(value: object) -> str:
    """Return a value as SQLite casts it to text."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return "" if value is None else str(value)


@lru_cache(maxsize=2)  # the same objects at every opening, in a tenth of the time
def compare(revision: str, objects: tuple[SchemaObject, ...]) -> Comparison:
    """Return how the objects of a schema differ from those of a known revision."""
    expected = expected_objects(revision)
    names = {name.partition(" ")[2] for name in expected}
    differences: list[Difference] = []
    others: list[SchemaObject] = []
    missing = dict(expected)
    for one in objects:
        digest = missing.pop(str(one), None)
        if digest is not None:
            if digest_of_object(one) != digest:
                differences.append(Difference(str(one), "changed"))
        elif _interferes(one, names):
            differences.append(Difference(str(one), "not imagekeep's"))
        elif one.sql is not None:  # SQLite creates an index without a statement for a constraint
            others.append(one)
    absent = (Difference(name, "missing") for name in missing)
    return Comparison((*absent, *differences), tuple(others))


def expected_objects(revision: str) -> dict[str, str]:
    """Return the digest of every object of a known revision, by `type name`."""
    expected: dict[str, str | None] = {}
    for made_by, objects in _MADE_BY.items():
        if made_by <= revision:
            expected |= objects
    return {name: digest for name, digest in expected.items() if digest is not None}


def digest_of_object(one: SchemaObject) -> str:
    """Return a digest of an object's table and statement; runs of white space count as one space."""
    # As bytes, because SQLite takes only ASCII's white space for white space.
    words = f"{one.table} {one.sql or ''}".encode(errors="surrogateescape").split()
    return blake2b(b" ".join(words), digest_size=16).hexdigest()


def describe(differences: Iterable[Difference]) -> str:
    """Return the first differences in words, and how many more there are."""
    texts = [str(difference) for difference in differences]
    unlisted = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {unlisted} more" if unlisted > 0 else "")


def _interferes(one: SchemaObject, names: set[str]) -> bool:
    """Return whether another program's object takes part in imagekeep's own statements."""
    if one.type == "trigger":
        return one.table.lower() in names
    name = one.name.lower()
    return name in names or name.startswith(_HIDING)


@lru_cache(maxsize=2)
def _version_table(objects: tuple[SchemaObject, ...]) -> Literal["missing", "changed", "unchanged"]:
    table = next((one for one in objects if one.name == "alembic_version"), None)
    if table is None:
        return "missing"
    expected = expected_objects(HEAD)["table alembic_version"]
    return "unchanged" if digest_of_object(table) == expected else "changed"


def _has_tables(objects: tuple[SchemaObject, ...]) -> bool:
    """Return whether there is an object that a revision creates, other than the table of revisions."""
    return any(str(one) in expected_objects(HEAD) and one.name != "alembic_version" for one in objects)


def _require_application_id(cursor: sqlite.Cursor, objects: tuple[SchemaObject, ...], path: Path) -> None:
    """Raise NotAStoreError unless the file has imagekeep's mark or is still empty."""
    identity = cursor.execute(statements.APPLICATION_ID).fetchone()[0]
    if identity == APPLICATION_ID:
        return
    tables = {one.name for one in objects if one.type == "table"}
    if not (identity or tables):
        return
    if not identity and {"alembic_version", "images", "references"} <= tables:
        raise NotAStoreError(
            f"store {printable(path)}: has imagekeep's tables but not its application id, like a copy made by "
            "sqlite3's .dump or .clone (use a copy made by `imagekeep db export`; to adopt this one, run "
            f"`PRAGMA application_id = {APPLICATION_ID}` in it)"
        )
    raise NotAStoreError(f"store {printable(path)}: another program's database; give another path")
