"""Help texts: every command has one, and every example works."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.command import ExampleCommand, LazyGroup, Place
from imagekeep.cli.root import root
from tests.cli.session import commands_in, run_line, transcript

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click

    from tests.cli.conftest import Run


def places(group: LazyGroup, *before: str) -> Iterator[tuple[tuple[str, ...], Place | LazyGroup]]:
    """Yield every command below a group, with its name."""
    for name, found in group.table.items():
        yield (*before, name), found
        if isinstance(found, LazyGroup):
            yield from places(found, *before, name)


COMMANDS = {" ".join(words): found for words, found in places(root)}


def command(name: str) -> click.Command:
    """Return a command by its name."""
    found = COMMANDS[name]
    return found.load() if isinstance(found, Place) else found


EXAMPLES = {
    example: each
    for each in [root, *map(command, COMMANDS)]
    if isinstance(each, ExampleCommand)
    for example in each.examples
}
WITH_A_DAEMON = [
    example
    for example in EXAMPLES
    if "--source containerd" in example
    or example.startswith(("imagekeep ship ", "imagekeep fleet "))
    or " browse" in example
]
"""Examples that use a fleet's centre or the host's containerd, or never end; other tests run these commands."""


@pytest.mark.parametrize("example", sorted(EXAMPLES.keys() - WITH_A_DAEMON))
def test_every_example_works(directory_template: Path, tmp_path: Path, example: str) -> None:
    directory = tmp_path / "work"
    shutil.copytree(directory_template, directory)
    shown = run_line(f"{example} && echo worked", directory)
    assert shown.splitlines()[-1:] == ["worked"], shown


@pytest.mark.parametrize("example", WITH_A_DAEMON)
def test_every_other_example_is_well_formed(run: Run, monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    called = []
    monkeypatch.setattr(EXAMPLES[example], "callback", lambda **options: called.append(options))
    assert run(*shlex.split(example)[1:]).code == 0
    assert called


@pytest.mark.parametrize("name", [name for name, found in COMMANDS.items() if isinstance(found, Place)])
def test_every_command_has_an_example(name: str) -> None:
    found = command(name)
    assert isinstance(found, ExampleCommand)
    assert any(f"{name} " in f"{example} " for example in found.examples) or name == "image ls"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_like_the_table_of_commands(run: Run, name: str) -> None:
    result = run(*name.split(), "--help")
    found = COMMANDS[name]
    summary = found.summary if isinstance(found, Place) else found.help
    assert result.code == 0
    assert " ".join(result.out.split("\n\n")[1].split()) == summary


def test_help_lists_every_command(run: Run) -> None:
    shown = run("--help").out
    assert [name for name in root.table if f"\n  {name} " not in shown] == []


def test_short_option_prints_help(run: Run) -> None:
    assert run("images", "-h") == run("images", "--help")


def test_examples_come_last(run: Run) -> None:
    assert run("image", "exists", "--help").lines[-2:] == [
        "Examples:",
        "  imagekeep image exists busybox:1.36",
    ]


def test_transcript_shows_what_a_terminal_would(directory: Path) -> None:
    shown = transcript(
        ["imagekeep images -q busybox:1.35", "imagekeep image exists nope || echo $?"], directory
    )
    assert shown == (
        "$ imagekeep images -q busybox:1.35\n"
        "sha256:e79278307b352b79a5f6912baf16e0e2d1974ff2abafe4df295438755fe77a7f\n"
        "$ imagekeep image exists nope || echo $?\n"
        "1\n"
    )
    assert commands_in(shown) == [
        "imagekeep images -q busybox:1.35",
        "imagekeep image exists nope || echo $?",
    ]
