"""Shell completion of commands, options, and names in the store."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.session import LONGEST, run_line, surroundings
from tests.cli.test_images import NEW, OLD, add

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

BASH = """
eval "$(imagekeep completion bash)"
compopt() { :; }
COMP_LINE=%s
COMP_POINT=${#COMP_LINE}
_imagekeep_completion imagekeep
printf '%%s\\n' "${COMPREPLY[@]}"
"""


def completed(line: str, directory: Path) -> list[str]:
    """Return bash's completions of a line."""
    return run_line(BASH % shlex.quote(line), directory).split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("imagekeep im", ["images", "image"]),
        ("imagekeep db b", ["backup"]),
        ("imagekeep images --dig", ["--digests"]),
        ("imagekeep images -o ", ["table", "json", "jsonl", "yaml", "csv", "tsv"]),
        ("imagekeep image exists busybox:1.", ["1.35", "1.36"]),
        ("imagekeep image inspect busybox:s", ["stable"]),
        ("imagekeep image inspect docker.io/library/busybox:1.36", ["1.36"]),
        ("imagekeep image rm busybox:1.35 busybox:1.3", ["1.35", "1.36"]),
        ("imagekeep --store images.db image untag busybox:sta", ["stable"]),
        ("imagekeep sync busybox:sta", ["stable"]),
        (f"imagekeep image inspect {NEW[7:12]}", [NEW[7:]]),
        (f"imagekeep image inspect {OLD[:12]}", [OLD[7:]]),
        (f"imagekeep image pin {NEW[7:12]}", []),
        ("imagekeep --store none.db image inspect b", []),
        ("imagekeep --store none.db image inspect --store images.db busybox:sta", ["stable"]),
        ("imagekeep image inspect --store none.db b", []),
        ("imagekeep image --store images.db inspect busybox:sta", ["stable"]),
    ],
)
def test_bash_completes(directory: Path, line: str, words: list[str]) -> None:
    assert completed(line, directory) == words


def test_name_with_shell_syntax_is_not_offered(directory: Path) -> None:
    add(directory, "evil.io/$(touch${IFS}x):v1")
    add(directory, "evil.io/app:v1")
    assert completed("imagekeep image inspect evil.io/", directory) == ["evil.io/app:v1"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_format_of_clicks_scripts(directory: Path, shell: str) -> None:
    current = "3" if shell == "zsh" else "busybox:1.36"
    asked = f"COMP_WORDS='imagekeep image inspect busybox:1.36' COMP_CWORD={current}"
    shown = run_line(f"{asked} _IMAGEKEEP_COMPLETE={shell}_complete imagekeep", directory)
    assert "busybox:1.36" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_calls_this_program(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert f"_IMAGEKEEP_COMPLETE={shell}_complete" in result.out


def test_bash_accepts_its_script(directory: Path) -> None:
    assert run_line("imagekeep completion bash | bash -n", directory) == ""


@pytest.mark.parametrize("asked", ["bash_complete", "tcsh_complete", "bash", "bash_source", "_"])
def test_completion_reports_no_errors(directory: Path, asked: str) -> None:
    assert run_line(f"_IMAGEKEEP_COMPLETE={asked} imagekeep; echo $?", directory) == "0\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_is_logged(directory: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "imagekeep", "--source", "containerd:nothing", "watch"],
        cwd=directory,
        env=surroundings(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert process.stderr.readline()  # it has started
        process.send_signal(number)
        _, rest = process.communicate(timeout=LONGEST)
    assert process.returncode == 0
    assert f"info    stopping: received {number.name}\n" in rest
