"""Builds archives member by member."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from imagekeep.sources.archive import Archive
from tests.images import digest_of, tar_of

if TYPE_CHECKING:
    from pathlib import Path


def config_of(*layers: bytes) -> bytes:
    """Return the config of an image with these uncompressed layers."""
    diff_ids = [digest_of(layer) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()


CONFIG = config_of()


def saved(members: dict[str, bytes], *layers: str, config: str = "config.json", tag: str = "app:v1") -> bytes:
    """Return an archive of docker's own form with one image; a layer without a member has the bytes `layer`."""
    manifest = [{"Config": config, "RepoTags": [tag], "Layers": list(layers)}]
    document = config_of(*(members.get(layer, b"layer") for layer in layers))
    return tar_of({"config.json": document, **members, "manifest.json": json.dumps(manifest).encode()})


def linked(*links: tuple[bytes, str, str], layer: str) -> bytes:
    """Return an archive of docker's own form whose layer is reached through links: (type, name, target)."""
    buffer = io.BytesIO(saved({"real.tar": b"layer"}, layer))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for flag, name, target in links:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = flag, target
            archive.addfile(header)
    return buffer.getvalue()


def streamed(content: bytes, **options: Any) -> Archive:
    return Archive(io.BytesIO(content), **options)


def references(archive: Archive) -> list[str]:
    return [record.reference for record in archive.records()]


def opened(content: bytes, form: str, directory: Path, **options: Any) -> Archive:
    """Return an archive in one of these forms."""
    content = gzip.compress(content) if form.startswith("gzip") else content
    if form.endswith("stream"):
        return Archive(io.BytesIO(content), **options)
    file = directory / "app.tar"
    file.write_bytes(content)
    return Archive(file, **options)
