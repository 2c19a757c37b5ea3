"""Compares the objects of a store's schema with those that its revision made.

A file can carry the application id and revision of a store and still be something else: a damaged schema, or a
view named `images` that never ends. The text of every statement is known for each revision, so each object is
compared by a digest of its own and can be named.

Objects that imagekeep did not make are fine (SQLite's statistics, Litestream's tables, an operator's index or
view), unless they run on imagekeep's own statements: a trigger on one of its tables or views, or an object whose
name hides one of SQLite's table-valued functions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from imagekeep.database import statements
from imagekeep.database.blake2 import blake2b

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagekeep.database.driver import sqlite

LONGEST_TEXT = 16_384
"""Characters of an object's name or statement that are read; imagekeep's own have at most 2,000."""

MOST_OBJECTS = 1_000
"""Rows of sqlite_schema that are read; imagekeep's own come first in a store that was migrated."""

SHOWN = 5
"""Differences that an error names."""

_MADE_BY: dict[str, dict[str, str]] = {
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
}
"""The objects that each revision made or changed, as `type name`, with the digest of each."""

_HIDING = ("json_", "pragma_")
"""How the names of the table-valued functions begin that imagekeep's statements use."""


class SchemaObject(NamedTuple):
    """One row of sqlite_schema; `sql` is None for an index that a constraint makes."""

    type: str
    name: str
    table: str
    sql: str | None

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


class Difference(NamedTuple):
    """One object that is not as the revision made it, and how: the words follow `type name`."""

    object: str
    how: Literal["missing", "changed", "not imagekeep's"]

    def __str__(self) -> str:
        return f"{self.object} is {self.how}"


class Comparison(NamedTuple):
    """What a schema has beside its revision: differences are errors, objects of others are not."""

    differences: tuple[Difference, ...]
    others: tuple[SchemaObject, ...]


def read_objects(cursor: sqlite.Cursor) -> tuple[SchemaObject, ...]:
    """Return the rows of sqlite_schema, long texts cut. SQLite's own errors pass."""
    rows = cursor.execute(statements.SCHEMA_OBJECTS, (LONGEST_TEXT, MOST_OBJECTS)).fetchall()
    return tuple(SchemaObject(*row) for row in rows)


@lru_cache(maxsize=2)  # the same objects at every opening, in a tenth of the time
def compare(revision: str, objects: tuple[SchemaObject, ...]) -> Comparison:
    """Return how the objects of a schema differ from those of a revision that this imagekeep knows."""
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
        elif one.sql is not None:  # SQLite makes an index without a statement for a constraint
            others.append(one)
    absent = (Difference(name, "missing") for name in missing)
    return Comparison((*absent, *differences), tuple(others))


def expected_objects(revision: str) -> dict[str, str]:
    """Return the digest of every object, as `type name`, of a revision that this imagekeep knows."""
    expected: dict[str, str] = {}
    for made_by, objects in _MADE_BY.items():
        if made_by <= revision:
            expected |= objects
    return expected


def digest_of_object(one: SchemaObject) -> str:
    """Return a digest of an object's table and statement, which runs of white space do not change."""
    text = f"{one.table} {' '.join((one.sql or '').split())}"
    return blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def describe(differences: Iterable[Difference]) -> str:
    """Return the first differences in words, and how many more there are."""
    texts = [str(difference) for difference in differences]
    unlisted = len(texts) - SHOWN
    return ", ".join(texts[:SHOWN]) + (f" and {unlisted} more" if unlisted > 0 else "")


def _interferes(one: SchemaObject, names: set[str]) -> bool:
    """Return whether another's object takes part in what imagekeep's own statements do."""
    if one.type == "trigger":
        return one.table.lower() in names
    name = one.name.lower()
    return name in names or name.startswith(_HIDING)
