"""Every fenced example of README.md and docs/ runs, and prints what the page says.

The blocks of a page run in order, in one directory with the layout `hello`; the README's start in a checkout. A
`console` block is a session, a `python` block a program, and a `sql` block queries, each ending in a semicolon.
Indented blocks and blocks fenced as `text` are not run.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.exit_codes import ExitCode
from imagekeep.schema import metadata
from tests.cli.session import PROMPT, run_line, surroundings
from tests.tools import require

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[1]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
EXPORT = f"{PROMPT}export "
FENCE = re.compile(r"^```(console|python|sql)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Session:
    """What a page's console blocks share: the directory, and the variables that they export."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {"IMAGEKEEP_STORE": "images.db", "IMAGEKEEP_SOURCE": "oci:hello"}

    def replay(self, block: str) -> str:
        """Run the commands of a console block, and return it with what they print now."""
        printed = []
        for line in block.splitlines():
            if line.startswith(EXPORT):
                for variable in line.removeprefix(EXPORT).split():
                    name, _, self.environment[name] = variable.partition("=")
            if line.startswith(PROMPT):
                printed.append(f"{line}\n")
                if not line.startswith(EXPORT):
                    printed.append(run_line(line.removeprefix(PROMPT), self.directory, self.environment))
        return "".join(printed)

    def run_python(self, program: str) -> None:
        """Run a program in a process of its own, with warnings as errors."""
        subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=self.directory,
            env=surroundings(self.environment),
            check=True,
            timeout=60,
        )

    def run_sql(self, queries: str) -> None:
        """Run queries on the page's store, or on a new one if the page has not made any."""
        path = self.directory / "images.db"
        if not path.exists():
            run_line("imagekeep sync", self.directory, self.environment)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            for query in filter(str.strip, queries.split(";\n")):
                assert connection.execute(query).description


RUN = [page for page in PAGES if page.name != "questions.md"]
"""The pages whose examples run here: those of questions.md, on another store, have tests/test_written_docs.py."""


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_example_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    require("sqlite3")
    for copy in ("hello", "tests/data/layout"):
        shutil.copytree(CHECKOUT / "tests" / "data" / "layout", tmp_path / copy)
    session = Session(tmp_path)

    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "console":
            assert TIME.sub("TIME", session.replay(block)) == TIME.sub("TIME", block)
        elif language == "python":
            session.run_python(block)
        else:
            session.run_sql(block)


def links() -> Iterator[tuple[Path, str]]:
    """Yield every relative link of the pages, with its page."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            yield page, target


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_a_relative_link_leads_to_a_file(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


def table_after(page: str, marker: str) -> list[str]:
    """Return the first column of the table behind a marker in a page of docs/."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    rows = text.split(f"<!-- {marker} -->")[1].strip().split("\n\n")[0].splitlines()
    return [row.split("|")[1].strip(" `") for row in rows[2:]]


def test_the_exit_codes_are_all_documented() -> None:
    assert table_after("operations.md", "exit codes") == sorted(
        {str(int(code)) for code in ExitCode}, key=int
    )


def test_the_drawing_of_the_schema_has_every_column() -> None:
    design = (CHECKOUT / "docs" / "design.md").read_text(encoding="utf-8")
    drawing = design.split("```text")[1].split("```")[0]
    drawn = set(re.findall(r"[a-z_]+", drawing))

    for table in metadata.sorted_tables:
        assert {table.name, *table.columns.keys()} <= drawn


def test_the_metrics_are_all_documented() -> None:
    sources = [CHECKOUT / "src/imagekeep/cri" / name for name in ("metrics.py", "store_metrics.py")]
    named = {name for file in sources for name in re.findall(r'"(imagekeep_[a-z_]+)"', file.read_text())}
    assert {name.removesuffix("_total") for name in table_after("operations.md", "metrics")} == named
