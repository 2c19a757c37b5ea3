"""Hostile queries for `imagekeep query`, which may read and do nothing else."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from imagekeep.database.connection import connect
from imagekeep.database.query import TimeLimit, run_query
from tests.torture.fuzz import word
from tests.torture.report import Harm
from tests.torture.sandbox import Sandbox, snapshot

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen

QUERIES = (
    "SELECT id , size FROM images JOIN documents ON blob_key = config_key WHERE size > 5 ORDER BY id LIMIT 3",
    "SELECT reference , count ( * ) FROM reference_history GROUP BY reference HAVING count ( * ) > 1",
    "WITH RECURSIVE t ( n ) AS ( SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 50 ) SELECT sum ( n ) FROM t",
    "SELECT value FROM image_list , json_each ( image_list . reference_names )",
    "SELECT hex ( document ) , length ( document ) FROM documents",
    'UPDATE images SET size = 0 WHERE id IN ( SELECT id FROM "references" )',
    "INSERT INTO incomplete_refs VALUES ( 'a' , 'b' , 0 , 0 , 0 ) RETURNING *",
    "REPLACE INTO pinned_refs SELECT name , image_key FROM 'references'",
    "DELETE FROM images RETURNING id",
    "ATTACH 'other.db' AS other",
    "ATTACH DATABASE ':memory:' AS memory",
    "VACUUM INTO 'other.db'",
    "CREATE TEMP TRIGGER t AFTER DELETE ON images BEGIN SELECT 1 ; END",
    "CREATE VIRTUAL TABLE v USING fts5 ( a )",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA table_info ( images )",
    "PRAGMA temp_store_directory = '/tmp'",
    "SELECT * FROM pragma_journal_mode ( 'DELETE' )",
    "SELECT * FROM pragma_table_info ( 'images' )",
    "SELECT load_extension ( 'x' ) , readfile ( 'images.db' ) , writefile ( 'other.db' , 'x' ) , edit ( 'x' )",
    "SELECT randomblob ( 100000000 ) || zeroblob ( 900000000 )",
    "SELECT printf ( '%.*c' , 1000000 , 'a' ) GLOB '*a*a*a*b'",
    "EXPLAIN QUERY PLAN SELECT * FROM sqlite_schema",
    "BEGIN ; COMMIT ; ROLLBACK ; SAVEPOINT s ; RELEASE s ; ANALYZE ; REINDEX ; DETACH main",
)

WORDS = tuple({piece for sentence in QUERIES for piece in sentence.split()})
HEAVY = (
    "9223372036854775807",
    "1e308",
    "-1",
    "NULL",
    "?",
    ":a",
    "x'00'",
    "'\x1b[31m'",
    "/*",
    "--",
    ";",
    "\0",
)


def query_of(draw: random.Random) -> str:
    """Return a query with a few words changed, or random words."""
    known = draw.choice(QUERIES).split()
    words = draw.choices(WORDS, k=draw.randrange(1, 15)) if draw.random() < 0.1 else known
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        at = draw.randrange(len(words) + 1)
        words[at : at + draw.choice((0, 1, 1, 2))] = [draw.choice((*WORDS, *HEAVY, word(draw)))]
    return " ".join(words)


def feed_queries(
    place: Path,
    draw: random.Random,
    count: int,
    harms_of: Callable[[object, Callable[[], object]], list[Seen]],
) -> list[Seen]:
    """Run `count` queries, each on its own connection; the store must not change."""
    sandbox = Sandbox(place / "disk", 0)
    sandbox.directory.mkdir()
    path = sandbox.store()
    with contextlib.chdir(sandbox.directory):
        was = snapshot(sandbox.directory)
        seen: list[Seen] = []
        for _ in range(count):
            sql = query_of(draw)
            with contextlib.closing(connect(path, read_only=True)) as connection:
                ask = functools.partial(
                    run_query, connection, sql, path, time_limit=TimeLimit(0.3), limit=100
                )
                seen += harms_of(sql, ask)
        if snapshot(sandbox.directory) != was:
            seen.append((Harm.BROKEN, "a query changed something"))
    return seen
