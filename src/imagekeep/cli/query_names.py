"""`imagekeep query --named`: lists the named queries and finds one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from imagekeep.cli.rows import Column, Listing
from imagekeep.errors import InvalidArgumentError, printable
from imagekeep.named_queries import named_queries

if TYPE_CHECKING:
    from imagekeep.named_queries import NamedQuery


def complete_named(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the matching names."""
    return [name for name in named_queries() if name.startswith(incomplete)]


def list_named() -> Listing:
    """Return the named queries, as rows."""
    rows = [(query.name, ", ".join(query.parameters), query.question) for query in named_queries().values()]
    documents = [
        {
            "name": query.name,
            "question": query.question,
            "parameters": dict(query.parameters),
            "sql": query.sql,
        }
        for query in named_queries().values()
    ]
    return Listing(
        [Column("name"), Column("parameters"), Column("question")], rows, "queries", lambda: documents
    )


def find_named(name: str, sql: str | None, path: str | None) -> NamedQuery:
    """Return a named query; raises InvalidArgumentError, and UsageError if another query is given too."""
    if sql is not None or path is not None:
        raise click.UsageError("give either a query or --named")
    queries = named_queries()
    if name in queries:
        return queries[name]
    near = difflib.get_close_matches(name, queries, n=1)
    advice = f"did you mean {near[0]!r}?" if near else "`imagekeep query --named` lists them"
    raise InvalidArgumentError(f"query: no such named query: {printable(name)} ({advice})")
