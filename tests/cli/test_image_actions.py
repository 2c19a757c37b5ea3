"""`imagekeep image rm`, `untag`, `pin` and `unpin`, on a real containerd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.cli import main
from imagekeep.cli.exit_codes import ExitCode
from imagekeep.sources.containerd import Containerd
from tests.cli.conftest import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.containerd import Daemon

APP = "docker.io/library/app:v1"
SECOND = "example.test/app:v2"


@pytest.fixture
def source(daemon: Daemon, namespace: str) -> Containerd:
    return Containerd(daemon.socket, namespace=namespace)


@pytest.fixture
def image_id(daemon: Daemon, namespace: str, tmp_path: Path) -> str:
    """Return the id of an image with two references."""
    return str(daemon.make_image(tmp_path / "image", APP, SECOND, namespace=namespace)["image_id"])


@pytest.fixture
def act(daemon: Daemon, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `imagekeep image …` on that containerd, in the test's namespace."""
    store = str(tmp_path / "images.db")
    before = ["--store", store, "--source", f"containerd:{daemon.socket}", "--namespace", namespace, "image"]

    def run(*arguments: str | Path) -> Result:
        return Result(main([*before, *map(str, arguments)]), *capsys.readouterr())

    return run


def names(source: Containerd) -> list[str]:
    return sorted(record.reference for record in source.records())


def test_rm_removes_an_image_and_prints_each_name_and_the_id(
    act: Run, image_id: str, source: Containerd
) -> None:
    result = act("rm", "app:v1")
    assert result == Result(0, f"Untagged: {APP}\nUntagged: {SECOND}\nDeleted: {image_id}\n", "")
    assert names(source) == []
    assert act("exists", "app:v1").code == ExitCode.NOT_FOUND


def test_rm_of_a_missing_image_fails_and_removes_the_others(
    act: Run, image_id: str, source: Containerd
) -> None:
    result = act("rm", "nothing:v1", "none:v2", image_id[7:19])
    assert result.code == ExitCode.NOT_FOUND
    assert result.err == "Error: no such image: nothing:v1\nError: no such image: none:v2\n"
    assert result.lines[-1] == f"Deleted: {image_id}"


def test_the_exit_code_is_that_of_the_first_failure(act: Run, image_id: str) -> None:
    act("pin", "app:v1")
    assert act("rm", "app:v1", "nothing:v1").code == ExitCode.REFUSED
    assert act("rm", "nothing:v1", "app:v1").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("verb", ["rm", "untag"])
def test_missing_images_can_be_ignored(verb: str, act: Run, image_id: str) -> None:
    assert act(verb, "--ignore", "nothing:v1") == Result(0, "", "")


def test_a_pinned_image_is_refused_unless_forced(act: Run, image_id: str, source: Containerd) -> None:
    act("pin", "app:v1")
    refused = act("rm", image_id)
    assert refused == Result(
        ExitCode.REFUSED, "", f"Error: image {image_id} is pinned (unpin it first, or force the removal)\n"
    )
    assert names(source) == [APP, SECOND]
    assert act("rm", "--force", image_id).lines[-1] == f"Deleted: {image_id}"


def test_untag_removes_references_and_the_image_with_the_last(act: Run, image_id: str) -> None:
    assert act("untag", "app:v1").out == f"Untagged: {APP}\n"
    assert act("untag", SECOND).out == f"Untagged: {SECOND}\nDeleted: {image_id}\n"


def test_untag_of_a_reference_that_pins_is_refused_unless_forced(act: Run, image_id: str) -> None:
    act("pin", "app:v1")
    assert act("untag", "app:v1").code == ExitCode.REFUSED
    assert act("untag", "-f", "app:v1").out == f"Untagged: {APP}\n"


def test_pin_and_unpin_print_each_reference(act: Run, image_id: str, source: Containerd) -> None:
    assert act("pin", "app:v1", SECOND).out == f"Pinned: {APP}\nPinned: {SECOND}\n"
    assert all(record.pinned for record in source.records())
    assert act("unpin", "app:v1").out == f"Unpinned: {APP}\n"
    assert [record.pinned for record in source.records()] == [False, True]


def test_pin_and_unpin_all_references_of_an_image(act: Run, image_id: str) -> None:
    assert act("pin", "--all", "app:v1").out == f"Pinned: {APP}\nPinned: {SECOND}\n"
    assert act("unpin", "--all", image_id[7:19]).out == f"Unpinned: {APP}\nUnpinned: {SECOND}\n"


def test_a_read_only_source_is_refused(run: Run) -> None:
    result = run("--source", "oci:busybox", "image", "rm", "busybox:1.36")
    assert result.code == ExitCode.REFUSED
    assert result.err.startswith("Error: source is read-only (")


def test_a_missing_socket_is_named(run: Run, directory: Path) -> None:
    result = run("--source", "containerd:nothing", "image", "rm", "busybox:1.36")
    assert (result.code, result.err) == (
        ExitCode.FAILED,
        f"Error: no socket at {directory}/nothing (is containerd running?)\n",
    )


def test_a_missing_namespace_is_an_error_and_not_a_missing_image(
    daemon: Daemon, image_id: str, run: Run
) -> None:
    result = run("--source", f"containerd:{daemon.socket}", "--namespace", "mistyped", "sync")
    assert result.code == ExitCode.FAILED
    assert "no namespace mistyped" in result.err


@pytest.mark.parametrize("verb", ["rm", "untag", "pin", "unpin"])
def test_a_name_is_required(verb: str, act: Run) -> None:
    assert act(verb).code == ExitCode.USAGE
