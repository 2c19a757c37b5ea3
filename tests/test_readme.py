"""The README says what the program really prints, and its queries run."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import pytest

from imagekeep.database.connection import connect
from tests.cli.session import commands_in, transcript
from tests.tools import require

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def block(language: str) -> str:
    """Return the README's one block of code in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with what the README's examples use of a checkout."""
    shutil.copytree(CHECKOUT / "tests" / "data" / "layout", tmp_path / "tests" / "data" / "layout")
    return tmp_path


def test_the_worked_session_is_what_the_program_prints(directory: Path) -> None:
    require("sqlite3")
    session = block("console")
    commands = commands_in(session)
    settings = dict(word.split("=") for word in commands[1].split()[1:])
    assert commands[1].startswith("export ")

    printed = transcript(commands, directory, settings)

    assert TIME.sub("TIME", printed) == TIME.sub("TIME", session)


def test_the_python_example_runs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(directory)

    exec(compile(block("python"), "README.md", "exec"), {})

    assert capsys.readouterr().out.endswith("890 False linux\n")


@pytest.mark.parametrize("query", [part for part in block("sql").split(";\n") if part.strip()])
def test_each_query_runs(store_path: Path, query: str) -> None:
    with contextlib.closing(connect(store_path, read_only=True)) as connection:
        assert connection.execute(query).description
