"""The pages of docs/ that are made from the program's own texts: schema.md, questions.md and imagekeep.1.

`scripts/write-docs` writes them, and tests compare them.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from imagekeep.cli.man import manual
from imagekeep.cli.root import root
from imagekeep.named_queries import TOOLS, named_queries
from imagekeep.schema import CONTRACT, views
from tests.cli.session import transcript
from tests.demo_store import make_demo_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Table

    from imagekeep.named_queries import NamedQuery

SCHEMA = f"""\
# The views

Each view below is part of a contract: a release may add views and columns, and removes or changes one only with
a new version of the contract. This is version {CONTRACT}; in the file it is `PRAGMA user_version`, and
`contract` in `store_list`. The tables beneath are imagekeep's own and may change with every schema revision.

```sh
imagekeep query 'SELECT name, size FROM image_list ORDER BY size DESC'
imagekeep schema image_list           # what its columns mean
imagekeep query --named               # thirty questions with their SQL: docs/questions.md
sqlite3 -readonly /var/lib/imagekeep/images.db 'SELECT reference, tag FROM reference_list'
imagekeep browse                      # in a web browser, with facets
```

- They need SQLite 3.37 or later: the `sqlite3` of Debian 12 and Datasette read them. The same descriptions are
  in the file, as comments beside the columns: `.schema image_list`.
- Null means not known yet, or that there is none; the description says which. True and false are 1 and 0.
- A time is text in ISO 8601 and UTC, `2026-11-20T03:00:00.000Z`, so that times compare as text. A size is in
  bytes.
- A list is JSON: `SELECT id FROM image_list, json_each(reference_names) WHERE value LIKE '%:latest'`.
- Registry, repository, tag and digest of a reference are computed from its name where they are selected; stored
  beside it they would be a second truth. Filter by `reference`, which has an index, where you can.
- A store that keeps several platforms shows its first in the views that say so; `platform_list`,
  `manifest_list` and `layer_list` have all.
- No view has the environment or labels of a config, or the commands of its history, where people keep secrets;
  the table `documents` does.
- `references` is a keyword of SQL. No view has that name or needs quotes; the table does: `SELECT * FROM
  "references"`.
- Sizes of images added up count shared layers once per image. `size_list` says what an image shares, and
  `content_list` has each blob, to add up what you want: `SELECT sum(size) FROM (SELECT DISTINCT digest, size
  FROM content_list)`.

"""

QUESTIONS = """\
# Questions

Thirty questions that an operator asks of a node, with the SQL that answers them. Each is a named query:

```sh
imagekeep query --named                          # list them
imagekeep query --named largest                  # ask
imagekeep query --named largest -o csv           # for a script
imagekeep query --named largest --show           # print the SQL, to change it
imagekeep browse                                 # the same in a web browser
```

The views are described in [schema.md](schema.md). The answers below are those of a small example store, which a
test compares. Where people want more than rows, a command of imagekeep answers too. The last table of each
question says what comes nearest in other tools; none of them keeps history, and a tool that is not named offers
nothing near.

"""


def schema_page() -> str:
    """Return docs/schema.md."""
    contents = "".join(f"- [{name}](#{name}): {view.comment}\n" for name, view in views.tables.items())
    return f"{SCHEMA}{contents}\n" + "\n".join(map(_view, views.tables.values()))


def _view(view: Table) -> str:
    columns = [(column.name, str(column.type).lower(), column.comment) for column in view.columns]
    rows = "".join(f"| `{name}` | {kind} | {meaning} |\n" for name, kind, meaning in columns)
    comment = view.comment or ""
    heading = f"## {view.name}\n\n{comment[:1].upper()}{comment[1:]}.\n\n"
    return f"{heading}| column | type | meaning |\n|---|---|---|\n{rows}"


def questions_page(directory: Path) -> str:
    """Return docs/questions.md; makes the example store in an empty directory."""
    make_demo_store(directory / "images.db")
    queries = named_queries().values()
    contents = "".join(
        f"{number}. [{query.question}](#{query.name})\n" for number, query in enumerate(queries, 1)
    )
    answers = (_question(number, query, directory) for number, query in enumerate(queries, 1))
    return f"{QUESTIONS}{contents}\n" + "\n".join(answers)


def _question(number: int, query: NamedQuery, directory: Path) -> str:
    return "\n".join(_sections(number, query, directory))


def _sections(number: int, query: NamedQuery, directory: Path) -> Iterator[str]:
    yield f'## <a id="{query.name}"></a>{number}. {query.question}\n'
    if query.parameters:
        yield "".join(f"- `{name}`: {meaning}\n" for name, meaning in query.parameters.items())
    yield f"```sql\n{query.sql}```\n"
    yield f"```console\n{transcript([question_command(query)], directory)}```\n"
    if query.command:
        yield f"For people: `{query.command}`\n"
    if query.nearest:
        yield "| tool | nearest |\n|---|---|"
        yield from (f"| {tool} | {_code(query.nearest[tool])} |" for tool in TOOLS if tool in query.nearest)
        yield ""


def question_command(query: NamedQuery) -> str:
    """Return the command line that asks a question with its example."""
    parameters = [word for name, value in query.example.items() for word in ("-p", f"{name}={value}")]
    return shlex.join(["imagekeep", "query", "--named", query.name, *parameters])


def _code(nearest: str) -> str:
    """Return `command` with the remark behind it in plain text."""
    command, bracket, remark = nearest.partition(" (")
    return f"`{command}`{bracket}{remark}"


def manual_page() -> str:
    """Return docs/imagekeep.1."""
    return manual(root, "imagekeep")
