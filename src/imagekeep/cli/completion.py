"""`imagekeep completion`, and the completions: click's own, plus references and ids from the store."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete, split_arg_string

from imagekeep.cli.command import command
from imagekeep.cli.entry import COMPLETING, PROGRAM
from imagekeep.cli.output import write
from imagekeep.errors import ImagekeepError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem, ShellComplete

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' reply
    reply=$(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
    COMPREPLY=()
    local line
    for line in $reply; do
        case "${line%%%%,*}" in
            plain) COMPREPLY+=("${line#*,}") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done
}
complete -o nosort -o default -F %(complete_func)s %(prog_name)s
"""
"""bash splits `busybox:1.36` into three words; unlike click's script, this one passes on the whole line."""


class _Bash(BashComplete):
    """Completion in bash that takes its word breaks into account."""

    source_template = _BASH
    _begun = 0

    @staticmethod
    def _check_version() -> None:
        """Check nothing: the calling shell may not be the first `bash` in PATH."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor and the incomplete word at the cursor."""
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(line)
        typed = words.pop() if words and not line[-1:].isspace() else ""
        breaks = os.environ["COMP_WORDBREAKS"]
        self._begun = 1 + max((at for at, character in enumerate(typed) if character in breaks), default=-1)
        return words[1:], typed

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return a completion without the part before the last word break, which bash keeps."""
        return f"{item.type},{item.value[self._begun :]}"


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "fish": FishComplete, "zsh": ZshComplete}


@command("imagekeep completion bash", "imagekeep completion fish > imagekeep.fish")
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def print_completion(shell: str) -> None:
    """Print a shell completion script.

    For bash, add `eval "$(imagekeep completion bash)"` to ~/.bashrc; for zsh, the same with zsh to ~/.zshrc. For
    fish, write the script to ~/.config/fish/completions/imagekeep.fish.
    """
    write(SHELLS[shell](click.Command(PROGRAM), {}, PROGRAM, COMPLETING).source().rstrip("\n") + "\n")


def complete(root: click.Command, instruction: str) -> None:
    """Write the completions for an instruction `SHELL_complete`; write nothing on errors."""
    shell, _, verb = instruction.partition("_")
    if shell not in SHELLS or verb != "complete":
        return
    with contextlib.suppress(
        ImagekeepError, click.ClickException, ImportError, KeyError, OSError, ValueError
    ):
        write(f"{SHELLS[shell](root, {}, PROGRAM, COMPLETING).complete()}\n")
