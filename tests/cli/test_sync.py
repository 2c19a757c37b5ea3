"""`imagekeep sync` with a real layout."""

from __future__ import annotations

import os
import pty
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.output import progress
from imagekeep.internals import local_resolve
from imagekeep.reader import Reader
from imagekeep.store import Store
from tests.cli.test_images import NEW, OLD
from tests.images import REF_NAME, LayoutWriter, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

SOURCE = ("--source", "oci:busybox")


@pytest.fixture
def layout(directory: Path) -> LayoutWriter:
    """A writer for the directory's layout."""
    writer = LayoutWriter.__new__(LayoutWriter)
    writer.directory = directory / "busybox"
    return writer


def test_new_references_are_shown_with_their_image(run: Run) -> None:
    result = run("--store", "new/images.db", *SOURCE, "sync")
    assert result.lines[:2] == [
        f"new docker.io/library/busybox:1.35 → {OLD[7:20]}",
        f"new docker.io/library/busybox:1.36 → {NEW[7:20]}",
    ]
    assert result.lines[-1] == "synced 5 references: 5 new"


def test_unchanged_references_are_counted_and_not_listed(run: Run) -> None:
    assert run(*SOURCE, "sync").lines == ["synced 5 references: 5 unchanged"]


def test_moved_vanished_and_unpinned_are_shown(run: Run, layout: LayoutWriter) -> None:
    old, new = layout.image(environment=["SECRET=hunter2"]), layout.image(layers=(b"one", b"two" * 5000))
    layout.write_index([named(old, "stable"), named(new, "1.36")])
    result = run(*SOURCE, "sync")
    assert "vanished docker.io/library/busybox:1.35" in result.lines
    assert f"moved docker.io/library/busybox:stable → {OLD[7:20]}" in result.lines
    assert any(line.startswith("unpinned docker.io/library/busybox@") for line in result.lines)
    assert result.lines[-1] == "synced 5 references: 1 moved, 1 unpinned, 2 unchanged, 1 vanished"


def test_quiet_prints_only_the_summary(run: Run) -> None:
    result = run("--store", "new.db", *SOURCE, "sync", "-q")
    assert (result.code, result.lines, result.err) == (0, ["synced 5 references: 5 new"], "")


@pytest.mark.parametrize(
    ("options", "shown", "rest"),
    [([], 20, "… and 4 more changes (-v lists all)"), (["-v"], 24, None), (["-q"], 0, None)],
)
def test_at_most_twenty_changes_are_listed_by_default(
    run: Run, layout: LayoutWriter, options: list[str], shown: int, rest: str | None
) -> None:
    image = layout.image(environment=["A=1"])
    layout.write_index([named(image, f"v{number}") for number in range(23)])
    lines = run("--store", "new.db", *SOURCE, "sync", *options).lines
    assert len([line for line in lines if line.startswith("new ")]) == shown
    assert [line for line in lines if line.startswith("…")] == ([rest] if rest else [])
    assert lines[-1] == "synced 24 references: 24 new"


def test_dry_run_shows_what_would_change_and_changes_nothing(
    run: Run, layout: LayoutWriter, directory: Path
) -> None:
    layout.write_index([])
    before = (directory / "images.db").read_bytes()
    result = run(*SOURCE, "sync", "--dry-run")
    assert result.lines[-1] == "dry run: would sync 5 references: 5 vanished; nothing was changed"
    assert run("images", "-q").lines == [OLD, NEW]
    assert (directory / "images.db").read_bytes() == before


def test_dry_run_creates_no_store(run: Run, directory: Path) -> None:
    result = run("--store", "new/images.db", *SOURCE, "sync", "--dry-run")
    assert (result.code, len(result.lines)) == (0, 6)
    assert not (directory / "new").exists()


def test_only_named_references_are_synced(run: Run, layout: LayoutWriter) -> None:
    layout.write_index([])
    assert run(*SOURCE, "sync", "busybox:1.36").lines == [
        "vanished docker.io/library/busybox:1.36",
        "synced 1 reference: 1 vanished",
    ]


def test_reference_spelled_as_in_the_store_is_used_as_is(run: Run, directory: Path) -> None:
    with Store.open(directory / "images.db") as store:
        store.add(store.get(NEW).__class__(NEW, ("busybox:1.36",), "", 1, False, store.get(NEW).config_json))
    assert run(*SOURCE, "sync", "busybox:1.36").lines[0] == "vanished busybox:1.36"


def test_unknown_reference_is_not_found(run: Run) -> None:
    result = run(*SOURCE, "sync", "nope")
    assert (result.code, result.err) == (1, "Error: no such image: docker.io/library/nope:latest\n")


def test_broken_image_is_reported_and_the_others_are_synced(run: Run, layout: LayoutWriter) -> None:
    broken, good = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.path(broken["digest"]).write_bytes(b"not the content of that name")
    layout.write_index([named(broken, "broken"), named(good, "good")])
    result = run("--store", "new.db", *SOURCE, "sync")
    assert result.code == 5
    assert "Error: docker.io/library/busybox:broken: " in result.err
    assert result.lines[-1] == "synced 4 references: 2 new, 2 unreadable"


def test_verify_rereads_unchanged_images(run: Run, layout: LayoutWriter) -> None:
    layout.path(NEW).write_bytes(b"flipped")
    assert run(*SOURCE, "sync").code == 0
    result = run(*SOURCE, "sync", "--verify", "busybox:1.36")
    assert result.code == 5
    assert result.err.startswith("Error: docker.io/library/busybox:1.36: ")


def test_failed_sync_keeps_what_the_store_has(run: Run, layout: LayoutWriter) -> None:
    layout.path(NEW).write_bytes(b"flipped")
    run(*SOURCE, "sync", "--verify")
    assert run("image", "exists", "busybox:1.36").code == 0


def test_sync_without_a_source_says_how_to_give_one(run: Run) -> None:
    result = run("sync")
    assert result.code == 2
    assert result.err.endswith("(add --source oci:DIRECTORY, or set IMAGEKEEP_SOURCE)\n")


def test_source_comes_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_SOURCE", "oci:busybox")
    assert run("sync").code == 0


def test_missing_source_is_a_source_error(run: Run) -> None:
    result = run("--source", "oci:nowhere", "sync")
    assert result.code == 125
    assert "nowhere" in result.err


@pytest.mark.parametrize(
    ("source", "arguments", "code"),
    [
        ("oci:nowhere", ["sync"], 125),
        ("oci:nowhere", ["sync", "busybox:1.36"], 125),
        ("oci:busybox", ["sync", "nope", "nope:2"], 1),
        ("archive:busybox/index.json", ["sync"], 125),
        ("containerd:nowhere.sock", ["sync"], 125),
        ("containerd:nowhere.sock", ["image", "rm", "busybox:1.36"], 125),
        ("oci:busybox", ["image", "pin", "busybox:1.36"], 4),
        ("oci:busybox", ["watch"], 4),
    ],
)
def test_a_failed_first_sync_leaves_no_store(
    run: Run, directory: Path, source: str, arguments: list[str], code: int
) -> None:
    result = run("--store", "new/images.db", "--source", source, *arguments)
    assert result.code == code
    assert result.err.startswith("Error: ")
    assert not (directory / "new").exists()


@pytest.fixture
def other(directory: Path) -> str:
    """Another layout, with one image."""
    layout = LayoutWriter(directory / "other")
    layout.write_index([named(layout.image(environment=["B=1"]), "v1")])
    return "oci:other"


def test_another_source_is_refused_and_both_are_named(run: Run, directory: Path, other: str) -> None:
    run(*SOURCE, "sync")
    for arguments in (["sync"], ["sync", "--dry-run"], ["sync", "--verify"]):
        result = run("--source", other, *arguments)
        assert result.code == 4
        assert f"follows oci:{directory}/busybox, not oci:{directory}/other" in result.err
    assert run("images", "-q").lines == [OLD, NEW]


def test_another_source_replaces_the_first_when_told_to(run: Run, other: str) -> None:
    run(*SOURCE, "sync")
    result = run("--source", other, "sync", "--replace-source")
    assert (result.code, result.lines[-1]) == (0, "synced 7 references: 2 new, 5 vanished")
    assert run("--source", other, "sync").code == 0
    assert run(*SOURCE, "sync").code == 4


def test_a_dry_run_does_not_replace_the_source(run: Run, other: str) -> None:
    run(*SOURCE, "sync")
    assert run("--source", other, "sync", "--replace-source", "--dry-run").code == 0
    assert run(*SOURCE, "sync").lines == ["synced 5 references: 5 unchanged"]


def test_a_source_is_recognized_by_any_path_to_it(run: Run, directory: Path) -> None:
    run(*SOURCE, "sync")
    (directory / "link").symlink_to("busybox")
    base = ("--base-name", "busybox")
    assert run("--source", f"oci:{directory}/link/../busybox", *base, "sync").code == 0
    assert run("--source", "oci:link", *base, "sync").code == 0


def test_a_link_moved_to_the_next_version_is_the_same_source(run: Run, directory: Path) -> None:
    (directory / "current").symlink_to("busybox")
    assert run("--source", "oci:current", "sync").code == 0
    (directory / "busybox").rename(directory / "next")
    (directory / "current").unlink()
    (directory / "current").symlink_to("next")
    assert run("--source", "oci:current", "sync").code == 0


def test_a_single_reference_may_come_from_another_source(run: Run, other: str) -> None:
    run(*SOURCE, "sync")
    assert run("--source", other, "sync", "other:v1").code == 0


def test_base_name_is_the_repository_of_bare_tags(run: Run) -> None:
    run("--store", "new.db", *SOURCE, "--base-name", "quay.io/a/b", "sync")
    assert run("--store", "new.db", "images", "-n", "quay.io/a/b:1.35").lines


@pytest.mark.parametrize("where", ["before", "after"])
def test_platform_selects_an_image_of_an_index(run: Run, directory: Path, where: str) -> None:
    layout = LayoutWriter(directory / "many")
    index = layout.multi_platform()
    layout.write_index([index | {"annotations": {REF_NAME: "v1"}}])
    option = ["--platform", "linux/arm64"]
    before, after = (option, []) if where == "before" else ([], option)
    assert run("--store", "new.db", "--source", "oci:many", *before, "sync", *after).code == 0
    with Reader.open("new.db") as reader:
        assert local_resolve(reader, "many:v1").config["architecture"] == "arm64"


def test_invalid_platform_is_a_usage_error(run: Run) -> None:
    assert run("--platform", "a/b/c/d", *SOURCE, "sync").code == 2


def test_name_with_terminal_sequences_is_escaped(run: Run, layout: LayoutWriter) -> None:
    image = layout.image(environment=["A=1"])
    layout.path(image["digest"]).unlink()
    layout.write_index([named(image, "v1", **{"io.containerd.image.name": "evil\x1b[31m/\u202ea:v1"})])
    result = run("--store", "new.db", *SOURCE, "sync")
    assert "\x1b" not in result.out + result.err
    assert "\u202e" not in result.out + result.err


def drawn(monkeypatch: pytest.MonkeyPatch, *, show_after: float) -> bytes:
    """Return a progress bar's terminal output with this delay before it appears."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr("imagekeep.cli.output.SHOW_AFTER", show_after)
    with open(theirs, "w") as terminal:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stderr", terminal)
        with progress("syncing") as show:
            assert show
            show(1, 2)
        terminal.write("end")
    shown = b""
    while not shown.endswith(b"end"):  # a pseudo-terminal returns its input in pieces
        shown += os.read(ours, 10_000)
    os.close(ours)
    return shown.removesuffix(b"end")


def test_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"50%" in drawn(monkeypatch, show_after=0)


def test_no_bar_is_drawn_for_short_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, show_after=3600) == b""


def test_no_bar_is_drawn_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("syncing") as show:
        assert show is None


def test_unreadable_reference_that_vanishes_is_not_a_failure(run: Run, layout: LayoutWriter) -> None:
    whole = layout.image()
    missing = {**layout.image(environment=["A=b"]), "digest": f"sha256:{'0' * 64}"}
    layout.write_index([named(whole, "whole"), named(missing, "broken")])
    run("--store", "new.db", *SOURCE, "sync")
    layout.write_index([named(whole, "whole")])

    result = run("--store", "new.db", *SOURCE, "sync")

    assert (result.code, result.err) == (0, "")


@pytest.fixture
def two_platforms(run: Run, layout: LayoutWriter) -> Run:
    """A store for two platforms, synced from an index with an image for each."""
    layout.write_index([named(layout.multi_platform(), "both")])
    assert run(*SOURCE, "sync", "--platform", "linux/amd64", "--platform", "linux/arm64").code == 0
    return run


def test_platforms_that_are_left_out_are_not_dropped_unasked(two_platforms: Run) -> None:
    refused = two_platforms(*SOURCE, "sync", "--platform", "linux/arm64")
    assert "also keeps linux/amd64" in refused.err
    assert "--replace-platforms" in refused.err
    assert two_platforms("images", "--platform", "linux/amd64").code == 0


def test_platforms_are_dropped_on_request(two_platforms: Run) -> None:
    dropped = two_platforms(*SOURCE, "sync", "--platform", "linux/arm64", "--replace-platforms")
    assert "dropped linux/amd64" in dropped.out
    asked = two_platforms("images", "--platform", "linux/amd64")
    assert "keeps linux/arm64, not linux/amd64" in asked.err
    assert asked.code == 1


def test_a_store_of_every_platform_is_narrowed_on_request(two_platforms: Run) -> None:
    assert two_platforms(*SOURCE, "sync", "--platform", "*").code == 0
    refused = two_platforms(*SOURCE, "sync", "--platform", "linux/amd64")
    assert refused.code == 4
    assert (
        "also keeps linux/arm64 (2 references), every other platform (add --platform '*', or" in refused.err
    )
    dropped = two_platforms(*SOURCE, "sync", "--platform", "linux/amd64", "--replace-platforms")
    assert dropped.lines[:2] == ["dropped linux/arm64 (2 references)", "dropped every other platform"]
    assert two_platforms(*SOURCE, "sync", "--platform", "linux/amd64").code == 0


def test_images_of_another_platform_are_listed(two_platforms: Run) -> None:
    ids = {two_platforms("images", "-q", "--platform", f"linux/{name}").out for name in ("amd64", "arm64")}
    assert len(ids) == 2
