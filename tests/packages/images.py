"""A container image in an OCI archive, opened."""

from __future__ import annotations

import functools
import json
import tarfile
from typing import TYPE_CHECKING, Any

from tests.images import tar_of_directory
from tests.tools import run

if TYPE_CHECKING:
    from pathlib import Path


TAG = "test"


class BuiltImage:
    """The only image of an archive, of one layer."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive

    def document(self, name: str) -> Any:
        """Return a JSON file of the archive."""
        with tarfile.open(self.archive) as archive:
            file = archive.extractfile(name)
            assert file is not None
            return json.load(file)

    def blob(self, descriptor: dict[str, Any]) -> Any:
        """Return a JSON blob."""
        return self.document(_path_of(descriptor))

    @functools.cached_property
    def digest(self) -> str:
        """The manifest's digest."""
        (descriptor,) = self.document("index.json")["manifests"]
        return str(descriptor["digest"])

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        found: dict[str, Any] = self.blob({"digest": self.digest})
        return found

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The config."""
        found: dict[str, Any] = self.blob(self.manifest["config"])
        return found

    def unpack(self, directory: Path) -> None:
        """Unpack the root file system."""
        (layer,) = self.manifest["layers"]
        with (
            tarfile.open(self.archive) as archive,
            tarfile.open(fileobj=archive.extractfile(_path_of(layer))) as root,
        ):
            root.extractall(directory, filter="tar")

    def with_tag_for_root(self, directory: Path) -> Path:
        """Return an archive with the image and, tagged `root`, the same image with root as its user.

        A kubelet sets a container's user by the pod's `runAsUser`; `ctr run` takes it from the image.
        """
        run("skopeo", "copy", "--quiet", f"oci-archive:{self.archive}", f"oci:{directory}:{TAG}")
        run("umoci", "config", "--image", f"{directory}:{TAG}", "--tag", "root", "--config.user", "0:0")
        return tar_of_directory(directory, directory.with_suffix(".tar"))


def _path_of(descriptor: dict[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"
