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
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, NamedTuple

from imagekeep.database import statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imagekeep.database.driver import sqlite

LONGEST_TEXT = 16_384
"""Characters of an object's name or statement that are read; imagekeep's own have at most 2,000."""

MOST_OBJECTS = 10_000
"""Rows of sqlite_schema that are read; imagekeep's own come first in a store that was migrated."""

SHOWN = 5
"""Differences that an error names."""

_MADE_BY: dict[str, dict[str, str]] = {
    "0001": {
        "table alembic_version": "081d577121a0e7277b9f7476cc40f93a",
        "table images": "6559ecfc12fcdc6556b1de53cd9a7503",
        "table configs": "1b9269531ba1d854c4f275429637712a",
        "table references": "dbe3501776be6fc435096d2392e14ceb",
        "table pinned_refs": "1a9f4ba6791f3eccd615eec318626d99",
        "table ref_cache": "7750a0e1a3bfe14bd7ba26b312578bc6",
        "trigger an_image_goes_with_its_last_reference": "ce55adbc579bcd2b9060b9b3fe45c736",
        "trigger an_image_goes_when_its_last_reference_moves": "348e5bd8dc921ca72dbfce104866e07c",
        "trigger a_reference_is_not_replaced": "1919ddb1647a5996471c1a5a5e965cd9",
        "trigger a_reference_takes_no_name_of_another": "360086c09ab5bd8208a6dc58ffa437fe",
        "view image_list": "52fd076c0984bd628d82520fed054d37",
        "view reference_list": "b0a50a17e90d9c5075cc35d558c3b363",
        "view config_list": "e01fe1515be3e55aebdfd472045ea274",
    },
    "0002": {
        "table reference_history": "63182969680a65f4fb5bd6d657230cfb",
        "index reference_history_by_reference": "1cd8bbe3cfa9fd3b2d9cdd4d68d8aac8",
        "trigger reference_history_is_not_rewritten": "cf57af2e927ee59226fba52b838895cc",
        "trigger reference_history_is_not_shortened": "447deecf24d83c0060df801cceeaf08c",
        "trigger reference_history_is_not_replaced": "8855da82f1bd679f35b369748193f7a6",
        "view history_list": "ba3574e9d632deb36e479ebbb6173044",
    },
    "0003": {
        "table incomplete_refs": "06cf0f7a950d0f3952509d8f712f5569",
        "table watcher": "6846dd11ed1e50b84342e7b53e8d5f49",
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


@lru_cache(maxsize=8)  # the same objects at every opening, in a tenth of the time
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
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


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
