"""The container image as a file: what it holds, and that it is always the same."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.tools import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.packages.images import BuiltImage

MACHINES = {"amd64": "X86-64", "arm64": "AArch64"}

MB = 1_000_000


@pytest.fixture(scope="module", params=MACHINES)
def architecture(request: pytest.FixtureRequest) -> str:
    """Return an architecture, in Debian's word, which is also OCI's."""
    return str(request.param)


@pytest.fixture(scope="module")
def built(architecture: str, image: BuiltImage, build_image: Callable[[str], BuiltImage]) -> BuiltImage:
    """Return the image for an architecture."""
    return image if image.config["architecture"] == architecture else build_image(architecture)


@pytest.fixture(scope="module")
def root(built: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the image's root file system."""
    directory = tmp_path_factory.mktemp("root")
    built.unpack(directory)
    return directory


def binaries(root: Path) -> list[Path]:
    """Return every program and library of a file system."""
    files = [path for path in (root / "usr").rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.read_bytes().startswith(b"\x7fELF")]


def test_the_same_inputs_make_the_same_image(
    image: BuiltImage, build_image: Callable[[str], BuiltImage]
) -> None:
    again = build_image(image.config["architecture"])
    assert again.digest == image.digest


def test_the_image_runs_imagekeep_as_an_unnamed_user(built: BuiltImage, architecture: str) -> None:
    config = built.config["config"]
    assert (built.config["os"], built.config["architecture"]) == ("linux", architecture)
    assert (config["User"], config["Entrypoint"]) == ("65532:65532", ["/usr/bin/imagekeep"])


def test_every_program_is_of_the_images_architecture(root: Path, architecture: str) -> None:
    found = binaries(root)
    headers = run("readelf", "--file-header", *found).decode()
    machines = [
        line.rpartition(" ")[2] for line in headers.splitlines() if line.strip().startswith("Machine:")
    ]
    assert len(machines) == len(found)
    assert set(machines) == {MACHINES[architecture]}


def test_every_library_that_a_program_needs_is_there(root: Path) -> None:
    found = binaries(root)
    needed = {
        line.partition("[")[2].rstrip("]")
        for line in run("readelf", "--dynamic", *found).decode().splitlines()
        if "(NEEDED)" in line
    }
    provided = {path.name for path in (root / "usr" / "lib").rglob("*.so*")}
    assert needed
    assert needed <= provided


def test_the_image_has_no_shell_and_no_package_manager(root: Path) -> None:
    programs = {path.name for directory in ("bin", "sbin") for path in (root / "usr" / directory).iterdir()}
    assert programs == {"imagekeep", "python3", "python3.11"}


def test_the_image_names_its_packages_and_their_licences(root: Path) -> None:
    packages = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
    assert {"libc6", "libssl3", "python3.11-minimal"} <= packages
    unlicensed = {name for name in packages if not (root / "usr/share/doc" / name / "copyright").exists()}
    assert not unlicensed
    assert list(root.glob("usr/lib/imagekeep/grpcio-*.dist-info/licenses/LICENSE"))


def test_the_image_is_small(built: BuiltImage, root: Path) -> None:
    (layer,) = built.manifest["layers"]
    assert layer["size"] < 45 * MB
    assert int(subprocess.check_output(["du", "-sb", root]).split()[0]) < 115 * MB


def test_only_root_may_change_what_is_in_the_image(root: Path) -> None:
    files = [path for path in root.rglob("*") if not path.is_symlink()]
    writable = [path for path in files if path.stat().st_mode & 0o022 and not path.stat().st_mode & 0o1000]
    assert not [path for path in writable if path.relative_to(root).parts[0] == "usr"]
    assert {path.stat().st_uid for path in files} == {0}
