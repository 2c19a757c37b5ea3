"""Exit codes, error messages, and global options."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import errors
from imagekeep.cli import suggestions
from imagekeep.cli.exit_codes import EXIT_CODES, ExitCode, exit_code
from imagekeep.cli.images import list_images
from tests.cli.session import LONGEST, run_line, surroundings

if TYPE_CHECKING:
    from tests.cli.conftest import Run


def run_process(directory: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "imagekeep", *arguments],
        cwd=directory,
        env=surroundings(options.pop("environment", None)),
        text=True,
        check=False,
        timeout=LONGEST,
        stderr=subprocess.PIPE,
        **{"stdout": subprocess.PIPE, **options},
    )


def raised_by(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `imagekeep images` raise an error."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(list_images, "callback", fail)


def subclasses(kind: type[errors.ImagekeepError]) -> list[type[errors.ImagekeepError]]:
    """Return a class and all its subclasses."""
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.ImagekeepError), ids=lambda kind: kind.__name__)
def test_every_error_has_an_exit_code(kind: type[errors.ImagekeepError]) -> None:
    expected = {
        "ImageNotFoundError": 1,
        "NotFoundError": 1,
        "InvalidArgumentError": 2,
        "InvalidDigestError": 2,
        "InvalidReferenceError": 2,
        "InvalidPlatformError": 2,
        "AmbiguousError": 3,
        "FailedPreconditionError": 4,
        "PinNeedsReferenceError": 4,
        "ImagePinnedError": 4,
        "AlreadyWatchedError": 4,
        "SourceMismatchError": 4,
        "CentreRefusedError": 4,
        "CentreVersionError": 4,
        "ReadOnlySourceError": 4,
    }
    assert exit_code(kind.__new__(kind)) == expected.get(kind.__name__, 125)


def test_table_of_exit_codes_names_each_class_once() -> None:
    assert len(EXIT_CODES) == len(set(EXIT_CODES))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.ImageNotFoundError("no such image: x"), 1, "Error: no such image: x\n"),
        (OSError(28, "No space left on device", "/a\x1bb"), 125, "Error: /a\\x1bb: No space left on device\n"),
        (OSError("odd"), 125, "Error: odd\n"),
        (MemoryError(), 125, "Error: out of memory\n"),
        (ImportError("No module named 'grpc'"), 125, "Error: incomplete installation: "
         "No module named 'grpc' (reinstall imagekeep)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_failure_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    raised_by(error, monkeypatch)
    result = run("images")
    assert (result.code, result.out, result.err) == (code, "", message)


@pytest.mark.parametrize(
    "arguments",
    [[], ["nope"], ["images", "--nope"], ["images", "a", "b"], ["images", "-o", "xml"], ["image", "inspect"]],
)
def test_usage_error_exits_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: imagekeep" in result.err


def test_invalid_argument_is_escaped(run: Run) -> None:
    result = run("images", "a", "b\x07\u202e")
    assert "(b\\x07\\u202e)" in result.err
    assert "\x07" not in result.err


def test_version_names_the_sqlite_in_use(run: Run) -> None:
    from imagekeep.database.driver import DRIVER, sqlite

    assert run("--version").out == f"imagekeep 0.1.0 (SQLite {sqlite.sqlite_version}, {DRIVER})\n"


def test_short_option_prints_the_version(run: Run) -> None:
    assert run("-V") == run("--version")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("rmi busybox", "(use `imagekeep image rm`)"),
        ("inspect busybox", "(use `imagekeep image inspect`)"),
        ("inspecti busybox", "(use `imagekeep image inspect`)"),
        ("history busybox", "(use `imagekeep image history`)"),
        ("version", "(use `imagekeep --version`)"),
        (
            "prune",
            "(containerd collects unreferenced content: remove references with `imagekeep image rm`)",
        ),
        ("ps", "(imagekeep does not pull or run images: use crictl, ctr or nerdctl, then `imagekeep sync`)"),
        (
            "pull busybox",
            "(imagekeep does not pull or run images: use crictl, ctr or nerdctl, then `imagekeep sync`)",
        ),
        ("LS", "(use `imagekeep images`)"),
        ("imgaes", "(did you mean `imagekeep images`?)"),
        ("bakcup", "(did you mean `imagekeep db backup`?)"),
        ("db status", "(use `imagekeep db info`)"),
        ("db chekc", "(did you mean `imagekeep db check`?)"),
        ("image rmi", "(use `imagekeep image rm`)"),
        ("image sync", "(use `imagekeep sync`)"),
        ("image backup", "(use `imagekeep db backup`)"),
        ("image log", "(use `imagekeep image history`)"),
        ("db sync", "(use `imagekeep sync`)"),
        ("db query", "(use `imagekeep query`)"),
        ("db ls", "(use `imagekeep images`)"),
    ],
)
def test_unknown_command_suggests_another(run: Run, words: str, advice: str) -> None:
    result = run(*words.split())
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1].endswith(f" {advice}")


@pytest.mark.parametrize("word", ["qqqqqq", "", "\u202e", "a" * 10_000])
def test_unknown_command_unlike_any_other_is_only_named(run: Run, word: str) -> None:
    result = run(word)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[-1] == f"Error: no such command: {errors.printable(word)}"


def commands_advised() -> list[str]:
    """Return every command line that may be suggested."""
    groups = (*suggestions.ELSEWHERE.values(), suggestions.OF_OTHER_GROUPS)
    words = [word for group in groups for word in group.values()]
    return sorted({*words, "imagekeep image rm", "imagekeep sync"})


@pytest.mark.parametrize("line", commands_advised())
def test_every_suggested_command_exists(run: Run, line: str) -> None:
    assert run(*line.split()[1:], "--help").code == 0


def test_choices_of_a_usage_error_are_readable(run: Run) -> None:
    assert "\n    bash,\n" in run("completion").err


def test_image_list_is_image_ls(run: Run) -> None:
    assert run("image", "list") == run("image", "ls")


@pytest.mark.parametrize(
    "words",
    [
        "images -q --store other.db",
        "image --store other.db ls -q",
        "--store none.db images -q --store other.db",
    ],
)
def test_global_options_work_after_the_command(run: Run, directory: Path, words: str) -> None:
    (directory / "images.db").rename(directory / "other.db")
    assert run(*words.split()).code == 0


@pytest.mark.parametrize("words", ["images -q --store=", "--store= images -q"])
def test_empty_store_is_the_default_before_and_after_the_command(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.delenv("IMAGEKEEP_STORE")
    for module in ("settings", "root"):
        monkeypatch.setattr(f"imagekeep.cli.{module}.default_store", lambda: directory / "images.db")
    assert run(*words.split()).code == 0


def test_word_that_would_remove_a_store_is_not_taken_for_one_of_images(run: Run) -> None:
    assert "image rm" not in run("db", "delete").err


def test_source_can_be_given_after_the_command(run: Run) -> None:
    assert run("sync", "--store", "new.db", "--source", "oci:busybox").code == 0
    assert run("images", "-q", "--store", "new.db") == run("images", "-q")


@pytest.mark.parametrize(
    ("words", "example"),
    [("image rm busybox:1.36", "containerd"), ("image pin a", "containerd"), ("watch", "containerd"),
     ("sync", "oci:DIRECTORY"), ("diff", "oci:DIRECTORY")],
)  # fmt: skip
def test_missing_source_error_suggests_one_that_the_command_can_use(
    run: Run, words: str, example: str
) -> None:
    result = run(*words.split())
    assert result.code == 2
    assert result.err.endswith(f"Error: no source given (add --source {example}, or set IMAGEKEEP_SOURCE)\n")


@pytest.mark.parametrize(("user", "advice"), [(1000, "use sudo"), (0, "add --store {}")])
def test_nodes_store_is_mentioned_if_there_is_one(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch, user: int, advice: str
) -> None:
    store = directory / "system" / "images.db"
    monkeypatch.setattr("imagekeep.cli.settings.SYSTEM_STORE", store)
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert "this machine" not in run("images", "--store", "none.db").err
    store.parent.mkdir()
    assert run("images", "--store", "none.db").err == (
        "Error: no store at none.db (`imagekeep --source SPEC sync` creates one; to see this machine's store, "
        f"{advice.format(store)})\n"
    )


def in_the_journal(line: str, directory: Path) -> str:
    """Run a line with the standard error that JOURNAL_STREAM names, and return what is written there."""
    log = directory / "journal"
    named = "JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2)"
    run_line(f"exec 2> {log}; {named} {line}", directory)
    return log.read_text()


def test_journal_gets_priorities(directory: Path) -> None:
    assert in_the_journal("imagekeep images --store none.db", directory).startswith(
        "<3>Error: no store at none.db"
    )
    assert (
        in_the_journal("imagekeep nosuch", directory).splitlines()[-1].startswith("<3>Error: no such command")
    )
    assert in_the_journal("imagekeep query --limit 1 'SELECT id FROM images'", directory).startswith(
        "<4>only the first 1 row"
    )


def test_journal_gets_no_second_timestamp(directory: Path) -> None:
    program = "from imagekeep.cli.logs import start_logging as s; import logging; s('{}', 'info')"
    warning = "; logging.getLogger('imagekeep.x').warning('a\\nb')"
    python = f'{sys.executable} -c "{program}{warning}"'
    assert in_the_journal(python.format("text"), directory) == "<4>a\\nb\n"
    assert in_the_journal(python.format("json"), directory).startswith('<4>{"time": ')


def test_stream_other_than_the_journal_gets_no_priorities(directory: Path) -> None:
    shown = run_line("JOURNAL_STREAM=1:2 imagekeep image inspect nope", directory)
    assert shown == "Error: no such image: nope\n"


def test_module_runs_like_the_command(directory: Path) -> None:
    assert run_process(directory, "images", "-q").stdout == run_line("imagekeep images -q", directory)


def test_name_that_is_not_utf8_is_not_found(directory: Path) -> None:
    done = run_process(directory, "image", "inspect", os.fsdecode(b"\xff\x1b"))
    assert (done.returncode, done.stderr) == (1, "Error: no such image: \\udcff\\x1b\n")


def test_store_path_that_is_not_utf8_is_named(directory: Path) -> None:
    done = run_process(directory, "--store", os.fsdecode(b"\xff"), "images")
    assert (done.returncode, done.stderr) == (
        125,
        "Error: no store at \\udcff (`imagekeep --source SPEC sync` creates one)\n",
    )


def test_encoding_that_lacks_a_character_gets_an_escape(directory: Path) -> None:
    done = run_process(
        directory, "--source", "oci:busybox", "--store", "new.db", "sync",
        environment={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0
    assert "busybox:1.35 \\u2192 e79278307b352" in done.stdout


PRINTING = [
    ["--help"],
    ["--version"],
    ["sync", "--help"],
    ["images"],
    ["images", "-o", "json"],
    ["db", "info"],
]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_closed_pipe_ends_any_output_quietly(directory: Path, arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = run_process(directory, *arguments, stdout=pipe, environment={"PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_full_output_device_is_one_error(directory: Path, arguments: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = run_process(directory, *arguments, stdout=full, environment={"PYTHONUNBUFFERED": unbuffered})
    assert (done.returncode, done.stderr) == (
        125,
        "Error: cannot write to standard output: No space left on device\n",
    )


def test_output_closed_from_the_start_is_an_error(directory: Path) -> None:
    for command in ("images", "--help"):
        shown = run_line(f"imagekeep {command} >&-; echo $?", directory)
        assert shown == "Error: cannot write to standard output: it is closed\n125\n"


def test_closed_standard_error_changes_no_exit_code(directory: Path) -> None:
    assert run_line("imagekeep image inspect nope 2>&-; echo $?", directory) == "1\n"


@pytest.mark.parametrize("driver", ["nope", "pysqlite3"])
def test_unusable_driver_is_one_line(directory: Path, driver: str) -> None:
    without = "import sys; sys.modules['pysqlite3'] = None; from imagekeep.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", without, "images"],
        cwd=directory,
        env=surroundings({"IMAGEKEEP_SQLITE_DRIVER": driver}),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    assert done.returncode in (ExitCode.REFUSED, ExitCode.FAILED)
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def heed_interrupts() -> None:
    """Restore the signals that a shell ignores for background processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_ends_quietly(directory: Path) -> None:
    """Interrupt the command while it reads an archive from standard input."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "imagekeep", "--source", "archive:-", "sync"],
        cwd=directory,
        env=surroundings(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    )
    assert process.stderr
    assert process.stdin
    process.stdin.write(b"\x1f\x8b")
    process.stdin.flush()
    while not (line := process.stderr.readline()).endswith(b" imagekeep.sync\n"):
        assert line, "it ended before it read"
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=30)
    others = [line for line in rest.splitlines() if not line.startswith(b"import time:")]
    assert (process.returncode, out, others) == (130, b"", [])
