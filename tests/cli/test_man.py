"""The manual page says what --help says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from imagekeep.cli.command import Place
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.cli.man import EXIT_CODES
from tests.cli.test_help import COMMANDS, EXAMPLES, command
from tests.tools import require

if TYPE_CHECKING:
    from tests.cli.conftest import Run

PAGE = Path(__file__).parents[2] / "docs" / "imagekeep.1"


@pytest.fixture(scope="module")
def rendered() -> str:
    """The page as `man` shows it on a wide terminal, on one line per paragraph."""
    shown = subprocess.run(
        [require("man"), "--warnings", "--no-hyphenation", "-E", "UTF-8", "-l", str(PAGE)],
        env={"MANWIDTH": "5000", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    return re.sub(r".\x08", "", shown.stdout)


def test_the_page_in_docs_is_the_printed_one(run: Run) -> None:
    printed = run("--man").out
    assert PAGE.read_text() == printed, "run: imagekeep --man > docs/imagekeep.1"


@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Place)])
def test_every_command_and_option_is_on_the_page(rendered: str, name: str) -> None:
    options = [option for option in command(name).params if isinstance(option, click.Option)]
    flags = [flag for option in options if not option.hidden for flag in option.opts]
    shown = {"image ls": "images"}.get(name, name)
    section = rendered.partition(f"   imagekeep {shown} [OPTIONS]")[2].partition("\n   imagekeep ")[0]
    assert section
    assert [flag for flag in flags if f"{flag} " not in section.replace(",", " ").replace("\n", " ")] == []


def test_every_example_is_on_the_page_on_one_line(rendered: str) -> None:
    assert [example for example in EXAMPLES if f" {example}\n" not in rendered] == []


def test_every_exit_code_is_on_the_page() -> None:
    assert {int(code) for code, _ in EXIT_CODES} == {int(code) for code in ExitCode}


def test_the_page_is_ascii() -> None:
    assert PAGE.read_text().isascii()
