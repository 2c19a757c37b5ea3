"""What images are made of, as skopeo, umoci and podman write them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.database.freeing import freed_by
from imagekeep.reader import ask
from tests.images import LayoutWriter, busybox_layout, change_image, digest_of, named, oci_archive
from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep import TargetPlatform


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """A layout of `v1`: amd64, arm64 with a layer of its own, and an attestation."""
    writer = LayoutWriter(tmp_path / "shop")
    target = writer.multi_platform(layers={"arm64": (b"layer", b"only arm64")})
    writer.write_index([named(target, "v1")])
    return writer


def platforms_at(source: str, path: Path, platform: str = "*") -> list[TargetPlatform]:
    """Sync a new store from a source of one image; return the platforms of its target."""
    with Store.open(path, source=source, platforms=[platform]) as store:
        report = store.sync()
        assert not report.failures
        (name,) = tags(store)
        return store.platforms(name)


def tags(store: Store) -> list[str]:
    """Return the references with a tag."""
    return sorted(name for name in store.references() if "@" not in name)


def names_of(store: Store, tag: str) -> list[str]:
    """Return the references of a tag's image, which removing it has to remove."""
    return list(store.find(tag).references)


def states(platforms: list[TargetPlatform]) -> list[tuple[str | None, str | None, bool]]:
    return [(each.platform, each.state, each.chosen) for each in platforms]


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_skopeo_copies_every_platform(layout: LayoutWriter, tmp_path: Path, kind: str) -> None:
    run("skopeo", "copy", "-q", "--all", f"oci:{layout.directory}:v1", f"{kind}:{tmp_path / 'copy'}:v1")
    source = {"oci": "oci", "oci-archive": "archive"}[kind]
    found = platforms_at(f"{source}:{tmp_path / 'copy'}", tmp_path / "images.db")
    assert states(found) == [("linux/amd64", "complete", True), ("linux/arm64", "complete", True)]
    assert [each.absent for each in found] == [0, 0]


def test_a_platform_that_the_store_does_not_keep_is_known(layout: LayoutWriter, tmp_path: Path) -> None:
    found = platforms_at(f"oci:{layout.directory}", tmp_path / "images.db", "linux/arm64")
    assert states(found) == [("linux/amd64", "complete", False), ("linux/arm64", "complete", True)]


def test_skopeo_copies_only_the_index(layout: LayoutWriter, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    run("skopeo", "copy", "-q", "--multi-arch=index-only", f"oci:{layout.directory}:v1", f"oci:{copy}:v1")
    with Store.open(tmp_path / "images.db", source=f"oci:{copy}") as store:
        errors = store.sync().failures.values()
    assert errors
    assert all("absent linux/amd64, linux/arm64" in str(error) for error in errors)


def test_one_platform_is_added_to_the_index_alone(layout: LayoutWriter, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    origin, to = f"oci:{layout.directory}:v1", f"oci:{copy}:v1"
    run("skopeo", "copy", "-q", "--multi-arch=index-only", origin, to)
    one = ("--override-arch", "arm64", "copy", "-q", "--preserve-digests")
    run("skopeo", *one, origin, f"oci:{copy}:arm64")
    with Store.open(tmp_path / "images.db", source=f"oci:{copy}", platform="linux/arm64") as store:
        store.sync()
        (name,) = (each for each in tags(store) if each.endswith("v1"))
        assert states(store.platforms(name)) == [
            ("linux/amd64", "absent", False),
            ("linux/arm64", "complete", True),
        ]


def test_a_layer_that_is_deleted_is_absent(layout: LayoutWriter, tmp_path: Path) -> None:
    layout.path(digest_of(b"only arm64")).unlink()
    found = platforms_at(f"oci:{layout.directory}", tmp_path / "images.db")
    assert [(each.state, each.absent, each.absent_bytes) for each in found] == [
        ("complete", 0, 0),
        ("partial", 1, len(b"only arm64")),
    ]


def test_umoci_images_share_their_layers(tmp_path: Path) -> None:
    layout = busybox_layout(tmp_path / "busybox", "v1", "v2")
    change_image(layout, "v2", "A=1")
    with Store.open(tmp_path / "images.db", source=f"oci:{layout}") as store:
        store.sync()
        one, two = tags(store)
        (first,), (second,) = store.platforms(one), store.platforms(two)
        assert (first.state, second.state) == ("complete", "complete")
        assert first.image_id != second.image_id
        freed = ask(store, freed_by, [names_of(store, one)]).content
    config_and_manifest = (first.size or 0) - (layout_layers(layout, first) or 0)
    assert freed.freed == (config_and_manifest,)


def layout_layers(layout: Path, platform: TargetPlatform) -> int:
    """Return the bytes of the layers of a manifest in a layout, from their files."""
    text = (layout / "blobs" / "sha256" / platform.manifest_digest[7:]).read_text()
    layers = re.findall(r'"sha256:([0-9a-f]{64})"', text.partition('"layers"')[2])
    return sum((layout / "blobs" / "sha256" / layer).stat().st_size for layer in layers)


def test_an_archive_of_umoci_is_complete(tmp_path: Path) -> None:
    layout = busybox_layout(tmp_path / "busybox")
    archive = oci_archive(layout, "v1", tmp_path / "busybox.tar")
    assert states(platforms_at(f"archive:{archive}", tmp_path / "images.db")) == [
        ("linux/amd64", "complete", True)
    ]


class Podman:
    """podman with a storage of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = (
            f"--root={directory / 'root'}",
            f"--runroot={directory / 'run'}",
            "--storage-driver=vfs",
            "--events-backend=none",
        )

    def __call__(self, *arguments: str | Path) -> str:
        return run("podman", *self.options, *arguments).decode()

    def build(self, name: str, base: str, size: int) -> None:
        """Build an image with a file of random bytes, which do not compress, upon another image."""
        context = self.directory / name
        context.mkdir()
        (context / "file").write_bytes(os.urandom(size))
        (context / "Containerfile").write_text(f"FROM {base}\nCOPY file /{name}\n")
        self("build", "-q", "-t", f"localhost/{name}:v1", context)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Return the shared and unique bytes of each image, as `podman system df -v` prints them."""
        sizes = r"^localhost/(\w+) .* (\S+)B +(\S+)B +\d+ *$"
        return {
            name: (in_bytes(shared), in_bytes(unique))
            for name, shared, unique in re.findall(sizes, self("system", "df", "-v"), re.MULTILINE)
        }


def in_bytes(text: str) -> int:
    units = {"k": 1_000, "M": 1_000_000}
    return round(float(text.rstrip("kM")) * units.get(text[-1], 1))


@pytest.fixture
def podman() -> Iterator[Podman]:
    """podman with an empty storage; its paths may have 50 characters."""
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as directory:
        yield Podman(Path(directory))


@pytest.mark.slow
def test_podman_counts_the_same_shared_and_unique_bytes(tmp_path: Path, podman: Podman) -> None:
    """podman counts tars, and the manifest twice; ours are compressed."""
    podman.build("base", "scratch", 300_000)
    podman.build("one", "localhost/base:v1", 200_000)
    podman.build("two", "localhost/base:v1", 100_000)
    for name in ("base", "one", "two"):
        podman("push", "-q", f"localhost/{name}:v1", f"oci:{tmp_path / 'pushed'}:{name}")
    with Store.open(tmp_path / "images.db", source=f"oci:{tmp_path / 'pushed'}") as store:
        store.sync()
        ours = {}
        for name in ("one", "two"):
            (tag,) = (each for each in tags(store) if each.endswith(f":{name}"))
            content = ask(store, freed_by, [names_of(store, tag)]).content
            ours[name] = (content.kept, content.freed[0])
    theirs = podman.usage()
    for name, (shared, unique) in ours.items():
        assert (shared, unique) == pytest.approx(theirs[name], rel=0.01, abs=3_000)
