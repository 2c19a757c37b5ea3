"""An OCI layout in a directory: its listing, and how it follows changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ImageNotFoundError,
    InvalidReferenceError,
)
from imagekeep.sources.directory import Signature
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.sources.protocol import Source
from tests.images import (
    PINNED,
    LayoutWriter,
    busybox_layout,
    change_image,
    named,
)
from tests.sources.conftest import listed
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.platform import PlatformMatcher

TAG = "docker.io/library/shop:v1"


class Counting:
    """A layout whose documents are counted as they are read."""

    def __init__(self, source: OCILayout, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[str] = []
        read = source.read

        def counted(descriptor: Descriptor) -> bytes:
            self.reads.append(descriptor.digest)
            return read(descriptor)

        monkeypatch.setattr(source, "read", counted)


def test_it_is_a_source(source: OCILayout) -> None:
    assert isinstance(source, Source)


def test_an_entry_has_its_tag_and_its_digest(layout: LayoutWriter, source: OCILayout) -> None:
    image = layout.image()
    layout.write_index([named(image, "v1")])
    assert listed(source) == {
        TAG: image["digest"],
        f"docker.io/library/shop@{image['digest']}": image["digest"],
    }


def test_each_reference_is_got_as_it_is_listed(layout: LayoutWriter, source: OCILayout) -> None:
    layout.write_index([named(layout.image(), "v1"), named(layout.multi_platform(), "v2")])
    records = source.records()
    assert [source.get(record.reference) for record in records] == records


def test_a_layout_of_umoci_is_read_as_it_changes(tmp_path: Path) -> None:
    directory = busybox_layout(tmp_path / "shop", "v1", "v2")
    source = OCILayout(directory)
    before = listed(source)
    assert before[TAG] == before["docker.io/library/shop:v2"]
    change_image(directory, "v2", "COLOUR=red")
    after = listed(source)
    assert after[TAG] == before[TAG]
    assert after["docker.io/library/shop:v2"] != before[TAG]
    run("umoci", "rm", "--image", f"{directory}:v1")
    with pytest.raises(ImageNotFoundError):
        source.get(TAG)


def test_the_base_name_can_be_given(layout: LayoutWriter, matcher: PlatformMatcher) -> None:
    layout.write_index([named(layout.image(), "v1")])
    assert OCILayout(layout.directory, base_name="example.test/app").get("example.test/app:v1")


@pytest.mark.parametrize("name", ["app:v1", ""])
def test_an_invalid_base_name_is_refused(layout: LayoutWriter, name: str) -> None:
    with pytest.raises(InvalidReferenceError):
        OCILayout(layout.directory, base_name=name)


def test_an_unnamed_image_has_the_base_name_at_its_digest(layout: LayoutWriter, source: OCILayout) -> None:
    image = layout.image()
    layout.write_index([image])
    assert set(listed(source)) == {f"docker.io/library/shop@{image['digest']}"}


def test_an_unnamed_image_in_a_directory_that_names_nothing_is_called_import(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "my shop")
    image = layout.image()
    layout.write_index([image])
    assert set(listed(OCILayout(layout.directory))) == {f"docker.io/library/import@{image['digest']}"}


def test_an_unnamed_attestation_is_not_an_image(layout: LayoutWriter, source: OCILayout) -> None:
    attestation = layout.image(system="unknown", architecture="unknown")
    attestation["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    layout.write_index([attestation])
    assert listed(source) == {}


def test_an_unnamed_entry_of_another_type_is_not_an_image(layout: LayoutWriter, source: OCILayout) -> None:
    layout.write_index([layout.document({}, "application/vnd.oci.image.config.v1+json")])
    assert listed(source) == {}


def test_of_two_entries_with_a_name_the_last_has_it_and_the_first_its_digest(
    layout: LayoutWriter, source: OCILayout
) -> None:
    first, last = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.write_index([named(first, "v1"), named(last, "v1")])
    targets = listed(source)
    assert targets[TAG] == last["digest"]
    assert targets[f"docker.io/library/shop@{first['digest']}"] == first["digest"]


@pytest.mark.parametrize(
    ("value", "pinned"), [("pinned", True), ("Pinned", False), ("true", False), ("", False)]
)
def test_only_the_annotation_pinned_pins(
    layout: LayoutWriter, source: OCILayout, value: str, pinned: bool
) -> None:
    layout.write_index([named(layout.image(), "v1", **{PINNED: value})])
    assert [record.pinned for record in source.records()] == [pinned] * 2


def test_other_annotations_are_not_labels(layout: LayoutWriter, source: OCILayout) -> None:
    layout.write_index([named(layout.image(), "v1", colour="red")])
    assert source.get(TAG).labels == {}


def test_a_reference_that_two_entries_share_is_pinned_by_either(
    layout: LayoutWriter, source: OCILayout
) -> None:
    image = layout.image()
    layout.write_index([named(image, "v1", **{PINNED: "pinned"}), named(image, "v2")])
    pinned = {record.reference for record in source.records() if record.pinned}
    assert pinned == {TAG, f"docker.io/library/shop@{image['digest']}"}


def test_a_name_that_moved_leaves_its_pin_behind(layout: LayoutWriter, source: OCILayout) -> None:
    first, last = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.write_index([named(first, "v1", **{PINNED: "pinned"}), named(last, "v1")])
    assert not source.get(TAG).pinned
    assert source.get(f"docker.io/library/shop@{first['digest']}").pinned


def test_each_manifest_is_looked_at_once(
    layout: LayoutWriter, source: OCILayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = layout.image(), layout.image(environment=["A=1"])
    layout.write_index([named(image, "v1")])
    counting = Counting(source, monkeypatch)
    assert source.get(TAG) in source.records()
    assert source.get(TAG)
    assert counting.reads == [image["digest"]]
    layout.write_index([named(image, "v1"), named(image, "v2"), named(other, "v3")])
    assert len(source.records()) == 5
    assert counting.reads == [image["digest"], other["digest"]]


def test_an_index_file_that_has_not_changed_for_a_while_is_not_read_again(
    layout: LayoutWriter, source: OCILayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.sources.oci_layout.SETTLING_TIME", -1)
    layout.write_index([named(layout.image(), "v1")])
    source.records()
    monkeypatch.setattr("imagekeep.sources.oci_layout.read_whole", None)
    assert source.get(TAG)


def test_a_change_of_an_index_file_that_had_settled_is_seen(
    layout: LayoutWriter, source: OCILayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagekeep.sources.oci_layout.SETTLING_TIME", -1)
    first, second = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.write_index([named(first, "v1")])
    assert source.get(TAG).target.digest == first["digest"]
    layout.write_index([named(second, "v1")])
    assert source.get(TAG).target.digest == second["digest"]


def test_a_change_within_one_tick_of_the_clock_is_seen(
    layout: LayoutWriter, source: OCILayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(Signature, "of", lambda _: Signature(1, 1, 1, modified=now, changed=now))
    first, second = layout.image(environment=["A=1"]), layout.image(environment=["A=2"])
    layout.write_index([named(first, "v1")])
    assert source.get(TAG).target.digest == first["digest"]
    layout.write_index([named(second, "v1")])
    assert source.get(TAG).target.digest == second["digest"]
