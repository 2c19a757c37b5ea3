"""`imagekeep image`: the commands that look up images."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from imagekeep.image import ObservedImage
from imagekeep.store import Store
from tests.cli.test_images import NEW, NEW_TARGET, OLD, add
from tests.images import LayoutWriter, digest_of, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

TAG = "docker.io/library/busybox:1.36"


@pytest.mark.parametrize(
    "name", [TAG, "busybox:1.36", f"busybox@{NEW_TARGET}", NEW, NEW[7:], NEW[7:12], NEW[:12]]
)
def test_image_is_found_by_each_of_its_names(run: Run, name: str) -> None:
    assert json.loads(run("image", "inspect", name).out)[0]["id"] == NEW


def test_exact_reference_wins_over_its_normal_form(run: Run, directory: Path) -> None:
    own = add(directory, "busybox:1.36")
    assert json.loads(run("image", "inspect", "busybox:1.36").out)[0]["id"] == own


def test_inspect_shows_everything_stored(run: Run) -> None:
    [document] = json.loads(run("image", "inspect", OLD).out)
    assert document["config"]["config"] == {"Env": ["SECRET=hunter2"]}
    assert document["references"] == [
        "docker.io/library/busybox:1.35",
        "docker.io/library/busybox@sha256:d456bdfd74a98d92f4dfc90d2b55a8a87a7f9aec76ee8d2c6ecbafd15bd88218",
    ]
    assert (document["size"], document["pinned"], document["chainID"][:7]) == (619, False, "sha256:")


def test_inspect_shows_images_in_the_order_given(run: Run) -> None:
    assert [image["id"] for image in json.loads(run("image", "inspect", NEW, OLD, NEW).out)] == [
        NEW,
        OLD,
        NEW,
    ]


def test_inspect_as_a_table_shows_no_config(run: Run) -> None:
    result = run("image", "inspect", "-o", "table", "busybox:1.35")
    assert result.lines == [
        f"ID: {OLD}",
        "Tag: docker.io/library/busybox:1.35",
        "Digest: docker.io/library/busybox@"
        "sha256:d456bdfd74a98d92f4dfc90d2b55a8a87a7f9aec76ee8d2c6ecbafd15bd88218",
        "Size: 619B",
        "Pinned: false",
        "Platform: linux/amd64: complete, chosen",
    ]


@pytest.fixture
def shop(run: Run, directory: Path) -> LayoutWriter:
    """A layout of an image for two platforms, whose arm64 layer is missing, with the store `shop.db`."""
    layout = LayoutWriter(directory / "shop")
    target = layout.multi_platform(layers={"arm64": (b"only arm64",)})
    layout.path(digest_of(b"only arm64")).unlink()
    layout.write_index([named(target, "v1")])
    assert run("--store", "shop.db", "--source", "oci:shop", "--platform", "linux/amd64", "sync").code == 0
    return layout


def test_inspect_shows_each_platform_of_the_target(run: Run, shop: LayoutWriter) -> None:
    [document] = json.loads(run("--store", "shop.db", "image", "inspect", "shop:v1").out)
    platforms = [(each["platform"], each["state"], each["chosen"]) for each in document["platforms"]]
    assert platforms == [("linux/amd64", "complete", True), ("linux/arm64", "partial", False)]
    assert [each["absentBlobs"] for each in document["platforms"]] == [0, 1]
    assert document["platforms"][0]["imageID"] == document["id"]


def test_inspect_as_a_table_shows_what_is_missing(run: Run, shop: LayoutWriter) -> None:
    lines = run("--store", "shop.db", "image", "inspect", "-o", "table", "shop:v1").lines
    assert lines[-2:] == [
        "Platform: linux/amd64: complete, chosen",
        "Platform: linux/arm64: partial, 1 blob (10B) absent",
    ]


def test_inspect_prints_nothing_if_an_image_is_missing(run: Run) -> None:
    result = run("image", "inspect", NEW, "nope")
    assert (result.code, result.out, result.err) == (1, "", "Error: no such image: nope\n")


def test_json_escapes_terminal_sequences_in_labels(run: Run, directory: Path) -> None:
    image_id = add(directory, "a.io/b:v1", config=b'{"config":{"Labels":{"a":"\\u001b[31m\\u009b"}}}')
    for output in ("json", "yaml"):
        printed = run("image", "inspect", "-o", output, image_id).out
        assert "\\u001b[31m\\u009b" in printed
        assert "\x1b" not in printed


def test_yaml_writes_any_text_in_ascii(run: Run, directory: Path) -> None:
    labels = {"no": "😀\x00", "k " * 1000: "", 'a"b\\': "é"}
    image_id = add(directory, "a.io/b:v1", config=json.dumps({"config": {"Labels": labels}}).encode())
    printed = run("image", "inspect", "-o", "yaml", image_id).out
    assert '"no": "\\U0001f600\\u0000"\n' in printed
    assert f'        ? "{"k " * 1000}"\n        : ""\n' in printed
    assert '"a\\"b\\\\": "\\u00e9"\n' in printed


@pytest.mark.parametrize(("name", "code"), [("busybox:1.36", 0), (NEW[7:10], 0), ("busybox:2", 1)])
def test_exists_answers_only_with_its_exit_code(run: Run, name: str, code: int) -> None:
    result = run("image", "exists", name)
    assert (result.code, result.out, result.err) == (code, "", "")


def ambiguous_prefix(directory: Path) -> str:
    """Add images until two ids share their first character, and return that."""
    firsts = {NEW[7], OLD[7]}
    for number in range(16):
        first = add(directory, f"a.io/b:{number}", config=b'{"author":"%d"}' % number)[7]
        if first in firsts:
            return first
        firsts.add(first)
    raise AssertionError("17 ids cannot begin with 16 characters")


@pytest.mark.parametrize("command", [["image", "exists"], ["image", "inspect"]])
def test_ambiguous_id_lists_the_candidates(run: Run, directory: Path, command: list[str]) -> None:
    prefix = ambiguous_prefix(directory)
    result = run(*command, prefix)
    assert result.code == 3
    assert re.fullmatch(
        rf"Error: ambiguous image id {prefix}: (sha256:{prefix}\w+, )+sha256:{prefix}\w+ \(.*\)\n", result.err
    )


@pytest.mark.parametrize("command", [["image", "exists"], ["image", "inspect"]])
def test_empty_name_is_a_usage_error(run: Run, command: list[str]) -> None:
    assert run(*command, "").code == 2


def move(directory: Path, config: bytes) -> str:
    """Move the tag to another image, and return its id."""
    with Store.open(directory / "images.db") as store:
        store.apply(TAG, ObservedImage(digest_of(config), "", 5, config, digest_of(b"target")))
    return digest_of(config)


@pytest.mark.parametrize("name", [TAG, "busybox:1.36"])
def test_history_shows_what_a_reference_named(run: Run, directory: Path, name: str) -> None:
    other = move(directory, b"{}")
    heading, *rows = run("image", "history", name).lines
    assert heading.split("   ")[0] == "TIME"
    assert [row.split()[1:] for row in rows] == [
        ["new", NEW[7:20], NEW_TARGET[7:20], "false"],
        ["moved", other[7:20], digest_of(b"target")[7:20], "false"],
    ]


def test_history_outlives_its_reference(run: Run, directory: Path) -> None:
    with Store.open(directory / "images.db") as store:
        store.apply(TAG, None)
    assert [row.split()[1] for row in run("image", "history", "-n", TAG).lines] == ["new", "vanished"]


def test_history_in_json_has_full_digests_and_times(run: Run) -> None:
    document = json.loads(run("image", "history", "-o", "json", "busybox:1.36").out)
    [entry] = document["history"]
    assert document["reference"] == TAG
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry.pop("platform") == "linux/amd64"
    assert entry == {"event": "new", "imageID": NEW, "targetDigest": NEW_TARGET, "pinned": False}


def test_history_of_an_unknown_reference_is_not_found(run: Run) -> None:
    result = run("image", "history", "nope")
    assert (result.code, result.err) == (1, "Error: no such image: nope\n")
