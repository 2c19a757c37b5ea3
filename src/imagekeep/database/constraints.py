"""The conditions that rows must meet: the schema has them as CHECK constraints, and `db check` asks them itself.

For on a connection that is opened read-only, SQLite leaves every CHECK out, and `PRAGMA integrity_check` with it
(SQLite, build.c: sqlite3AddCheckConstraint).
"""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """A condition on each row of a table; `key` is the column that names a row."""

    table: str
    key: str
    condition: str


def _is_digest(column: str) -> str:
    """Return a condition: the column holds a whole digest of an algorithm that go-digest knows.

    SQLite's length of a text ends at a NUL, so the length of its bytes must be the same.
    """
    return (
        f"substr({column}, 1, 7) || length({column})\n"
        "            IN ('sha256:71', 'sha384:103', 'sha512:135')\n"
        f"            AND substr({column}, 8) NOT GLOB '*[^0-9a-f]*'\n"
        f"            AND length({column}) = length(CAST({column} AS BLOB))"
    )


CHECKS = {
    "images_id_is_a_digest": Check("images", "id", _is_digest("id")),
    "references_have_a_name": Check("references", "name", "length(CAST(name AS BLOB)) BETWEEN 1 AND 32768"),
    "references_have_a_sort_rank": Check("references", "name", "sort_rank BETWEEN 0 AND 5"),
    "ref_cache_target_is_a_digest": Check("ref_cache", "reference", _is_digest("target_digest")),
    "reference_history_events": Check(
        "reference_history",
        "sequence",
        "event IN ('recorded', 'new', 'moved', 'retargeted', 'pinned', 'unpinned', 'vanished')",
    ),
    "reference_history_pinned_is_a_truth": Check("reference_history", "sequence", "pinned IN (0, 1)"),
    "watcher_is_one_row": Check("watcher", "watcher_key", "watcher_key = 1"),
    "identity_is_one_row": Check("identity", "identity_key", "identity_key = 1"),
    "image_filesystem_is_one_row": Check("image_filesystem", "filesystem_key", "filesystem_key = 1"),
}
"""The condition of each constraint, by its name."""

FORBIDDEN_ROWS = "\nUNION ALL ".join(
    f"SELECT '{check.table}', \"{check.key}\", '{name}' FROM \"{check.table}\" WHERE NOT ({check.condition})"  # noqa: S608
    for name, check in CHECKS.items()
)
"""Every row that a condition forbids: its table, what names it, and the constraint."""
