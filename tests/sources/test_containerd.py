"""containerd as a source, on a real one: its records, its documents, its labels."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import (
    ContentNotFoundError,
    CorruptContentError,
    ImageNotFoundError,
    InvalidArgumentError,
    InvalidDigestError,
    InvalidReferenceError,
    NamespaceNotFoundError,
)
from imagekeep.image import PINNED_LABEL, ImageRecord
from imagekeep.oci.content import DOCUMENT_LIMIT, ContentInfo, read_document
from imagekeep.oci.descriptor import Descriptor
from imagekeep.sources.containerd import Containerd
from imagekeep.sources.containerd.connection import Connection
from imagekeep.sources.containerd.protocol import UPDATE_IMAGE
from imagekeep.sources.protocol import Changeable, Source
from tests.containerd import CRI, K8S, running, wait_until
from tests.images import OCI_MANIFEST, busybox_layout, digest_of, docker_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containerd import Daemon

MANAGED = {"io.cri-containerd.image": "managed"}
"""The label of the records that the CRI plugin makes or has seen."""


@pytest.fixture
def source(daemon: Daemon) -> Iterator[Containerd]:
    with Containerd(daemon.socket) as source:
        yield source


def names(source: Containerd) -> set[str]:
    return {record.reference for record in source.records()}


def test_it_is_a_source_that_can_be_changed(source: Containerd) -> None:
    assert isinstance(source, Source)
    assert isinstance(source, Changeable)


def test_a_record_has_the_target_and_the_labels_that_containerd_has(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/record:v1")
    daemon.ctr("images", "label", "example.test/record:v1", "team=shop", "empty=x")
    target = Descriptor(OCI_MANIFEST, image["digest"], image["size"])
    record = ImageRecord("example.test/record:v1", target, {"team": "shop", "empty": "x"})
    assert source.get("example.test/record:v1") == record
    assert record in source.records()


def test_a_reference_is_compared_exactly(daemon: Daemon, source: Containerd, tmp_path: Path) -> None:
    daemon.make_image(tmp_path / "image", "example.test/exact:v1")
    with pytest.raises(ImageNotFoundError, match=r"example\.test/exact:V1"):
        source.get("example.test/exact:V1")


@pytest.mark.parametrize("name", ["foo", "Not A Reference", "sha256:abc", "é/ü:1", "x" * 5000])
def test_a_name_that_is_not_a_reference_is_kept_as_given(
    name: str, daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/odd:v1")
    daemon.make_record(name, image)
    assert source.get(name).target == source.get("example.test/odd:v1").target
    assert name in names(source)
    source.remove(name)
    assert name not in names(source)


def test_a_name_or_label_that_is_not_utf8_does_not_break_the_listing(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/bytes:v1")
    # Later ones take no such bytes, but keep what is there.
    if daemon.version().startswith(("1.6.", "v1.6.")):
        daemon.make_record("\udcff", image)
        daemon.ctr("images", "label", "example.test/bytes:v1", "label=\udcfe")
        assert source.get("example.test/bytes:v1").labels["label"] == "\udcfe"
    assert "example.test/bytes:v1" in names(source)
    assert not any("\udcff" in name for name in names(source))


@pytest.mark.parametrize("name", ["", "\udcff", "x" * 40_000])
def test_an_invalid_name_is_refused_before_the_call(name: str, source: Containerd) -> None:
    with pytest.raises(InvalidReferenceError):
        source.get(name)


def test_a_listing_above_grpc_s_default_limit_is_accepted(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/large:v1")
    request = UPDATE_IMAGE.request()
    request.image.name = b"example.test/large:v1"
    request.image.target.SetInParent()
    for number in range(1300):
        request.image.labels.add(key=b"label-%d" % number, value=b"v" * 4000)
    request.update_mask.paths.append("labels")
    assert request.ByteSize() > 4 << 20
    connection = Connection(daemon.socket, K8S)
    connection.call(UPDATE_IMAGE, request, timeout=10)
    connection.close()
    (record,) = [r for r in source.records() if r.reference == "example.test/large:v1"]
    assert len(record.labels) == 1300
    source.remove("example.test/large:v1")


def test_documents_are_read_as_they_were_imported(daemon: Daemon, source: Containerd, tmp_path: Path) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/read:v1")
    target = source.get("example.test/read:v1").target
    assert digest_of(source.read(target)) == image["digest"]
    assert read_document(source, target) == source.read(target)
    assert source.info(image["digest"]) == ContentInfo(image["digest"], image["size"])


def test_a_blob_of_several_chunks_is_read_whole(daemon: Daemon, source: Containerd, tmp_path: Path) -> None:
    layer = os.urandom((3 << 20) + 17)
    daemon.make_image(tmp_path / "image", "example.test/chunks:v1", layers=(layer,))
    assert source.read(Descriptor("", digest_of(layer), 0)) == layer


def test_a_blob_as_large_as_a_document_may_be_is_read(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    layer = b"x" * DOCUMENT_LIMIT
    daemon.make_image(tmp_path / "image", "example.test/cap:v1", layers=(layer,))
    assert source.read(Descriptor("", digest_of(layer), 0)) == layer


def test_a_blob_that_is_larger_than_a_document_may_be_is_refused(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    layer = b"y" * (DOCUMENT_LIMIT + 1)
    daemon.make_image(tmp_path / "image", "example.test/over:v1", layers=(layer,))
    with pytest.raises(CorruptContentError, match="larger than a document may be"):
        source.read(Descriptor("", digest_of(layer), 10))
    assert source.info(digest_of(layer)).size == DOCUMENT_LIMIT + 1


def test_a_record_whose_blobs_are_missing_is_listed_and_its_content_is_not_found(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/missing:v1")
    daemon.ctr("content", "rm", image["digest"])
    record = source.get("example.test/missing:v1")
    assert record in source.records()
    with pytest.raises(ContentNotFoundError, match=image["digest"]):
        source.read(record.target)
    with pytest.raises(ContentNotFoundError, match=image["digest"]):
        source.info(image["digest"])


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "../../etc/passwd"])
def test_a_digest_that_is_none_is_refused(digest: str, source: Containerd) -> None:
    with pytest.raises(InvalidDigestError):
        source.read(Descriptor("", digest, 0))
    with pytest.raises(InvalidDigestError):
        source.info(digest)


def test_each_namespace_has_its_own_images(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make_image(tmp_path / "a", "example.test/here:v1", namespace="here")
    daemon.make_image(tmp_path / "b", "example.test/there:v1", namespace="there")
    with Containerd(daemon.socket, namespace="here") as here:
        assert names(here) == {"example.test/here:v1"}
    with Containerd(daemon.socket, namespace="there") as there:
        assert names(there) == {"example.test/there:v1"}
        assert {"here", "there"} <= set(there.namespaces())


def test_a_missing_namespace_is_an_error_and_never_no_images(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon:
        daemon.make_image(tmp_path / "image", "example.test/there:v1")
        with Containerd(daemon.socket, namespace="k8s.oi") as source:
            with pytest.raises(NamespaceNotFoundError, match=r"no namespace k8s\.oi; it has k8s\.io$"):
                source.records()
            with pytest.raises(NamespaceNotFoundError):
                source.get("example.test/there:v1")
            with pytest.raises(NamespaceNotFoundError):
                source.remove("example.test/there:v1")


def test_a_new_containerd_has_no_namespaces_and_no_images(tmp_path: Path) -> None:
    with running(tmp_path / "containerd", CRI) as daemon, Containerd(daemon.socket) as source:
        assert source.records() == []
        with pytest.raises(ImageNotFoundError):
            source.get("example.test/app:v1")


def test_a_namespace_that_lost_its_last_image_still_is_one(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make_image(tmp_path / "image", "example.test/last:v1", namespace="emptied")
    with Containerd(daemon.socket, namespace="emptied") as source:
        source.remove("example.test/last:v1", synchronous=True)
        assert source.records() == []


@pytest.mark.parametrize("namespace", ["", "a b", "-x", 'k8s.io",topic=="/', "ü", "x" * 77, "k8s.io\n"])
def test_an_invalid_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid containerd namespace"):
        Containerd(namespace=namespace)


def test_pinning_sets_one_label_and_unpinning_removes_it_and_the_others_stay(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/pin:v1")
    daemon.ctr("images", "label", "example.test/pin:v1", "team=shop", "io.cri-containerd.image=managed")
    kept = {"team": "shop", "io.cri-containerd.image": "managed"}
    assert source.pin("example.test/pin:v1").labels == {**kept, PINNED_LABEL: "pinned"}
    assert source.get("example.test/pin:v1").pinned
    assert source.unpin("example.test/pin:v1").labels == kept
    assert source.get("example.test/pin:v1").labels == kept


def test_a_label_can_be_set_again_and_removed_twice(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    daemon.make_image(tmp_path / "image", "example.test/label:v1")
    source.set_label("example.test/label:v1", "a.b/c", "1")
    assert source.set_label("example.test/label:v1", "a.b/c", "2").labels == {"a.b/c": "2"}
    source.set_label("example.test/label:v1", "a.b/c", None)
    assert source.set_label("example.test/label:v1", "a.b/c", None).labels == {}


def test_a_missing_record_cannot_be_pinned_or_removed(source: Containerd) -> None:
    with pytest.raises(ImageNotFoundError):
        source.pin("example.test/nothing:v1")
    with pytest.raises(ImageNotFoundError):
        source.unpin("example.test/nothing:v1")
    with pytest.raises(ImageNotFoundError):
        source.remove("example.test/nothing:v1")


def test_a_synchronous_removal_takes_the_content_with_it(
    daemon: Daemon, source: Containerd, tmp_path: Path
) -> None:
    image = daemon.make_image(tmp_path / "image", "example.test/gone:v1")
    source.remove("example.test/gone:v1", synchronous=True)
    with pytest.raises(ContentNotFoundError):
        source.info(image["digest"])


def test_it_says_which_containerd_it_is(daemon: Daemon, source: Containerd) -> None:
    printed = daemon.ctr("version")
    assert source.version().version in printed
    assert source.version().revision in printed


def test_it_answers_in_a_child_after_a_fork_and_still_in_the_parent(daemon: Daemon) -> None:
    # The parent's connection answers in a child too, now and then.
    program = """
import os, sys
from imagekeep.sources.containerd import Containerd
with Containerd(sys.argv[1]) as source:
    before = source.version()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(source.version() != before)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert source.version() == before
print("all answered")
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, daemon.socket]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "all answered\n", done.stderr


def test_an_image_that_the_cri_plugin_has_seen_has_its_three_records(
    cri_daemon: Daemon, tmp_path: Path
) -> None:
    layout = busybox_layout(tmp_path / "layout")
    cri_daemon.import_archive(docker_archive(layout, "v1", tmp_path / "app.tar", "example.test/three:v1"))
    with Containerd(cri_daemon.socket) as source:
        target = source.get("example.test/three:v1").target
        at_digest = f"example.test/three@{target.digest}"
        cri_daemon.ctr("images", "tag", "example.test/three:v1", at_digest)

        def records() -> list[ImageRecord]:
            of_image = [record for record in source.records() if record.target == target]
            return sorted(of_image, key=lambda record: record.reference)

        wait_until(lambda: [record.labels for record in records()] == [MANAGED] * 3)
        by_tag, by_repository, by_id = records()
        assert (by_tag.reference, by_repository.reference) == ("example.test/three:v1", at_digest)
        config = source.read(Descriptor("", by_id.reference, 0))
        assert digest_of(config) == by_id.reference
