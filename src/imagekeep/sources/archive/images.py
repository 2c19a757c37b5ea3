"""Lists the images of an archive from its index.json and its manifest.json.

Docker from version 25 and `ctr images export` write both. Either can lack images that the other has: an image
saved by its digest, or all but one of several, may be only in manifest.json. So both are read, and images of the
two with the same config are the same.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from imagekeep.digest import is_digest, split, validate
from imagekeep.errors import (
    ContentNotFoundError,
    ImagekeepError,
    InvalidDocumentError,
    InvalidReferenceError,
    printable,
)
from imagekeep.oci.content import ContentInfo
from imagekeep.oci.documents import INDEX_TYPES, MANIFEST_TYPES
from imagekeep.oci.gojson import Reason
from imagekeep.oci.image_reader import ImageReader, SharedDocuments
from imagekeep.reference import parse_docker_ref
from imagekeep.sources.archive.docker import Converter, entries_of, saved_images
from imagekeep.sources.listing import parse_entries
from imagekeep.sources.naming import names_of
from imagekeep.sources.oci_layout import (
    BLOBS,
    INDEX_FILE,
    LAYOUT_FILE,
    SAVED_FILE,
    SKOPEO_FILE,
    SKOPEO_MARK,
    check_layout_version,
    skopeo_directory,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.reference import Reference
    from imagekeep.sources.archive.blobs import Blob
    from imagekeep.sources.archive.docker import SavedImage
    from imagekeep.sources.archive.members import MemberTable
    from imagekeep.sources.artifacts import Entry


class ArchivedImages:
    """The entries of an archive, and its blobs by digest; a ContentReader."""

    def __init__(self, table: MemberTable, name: str, base: Reference | None) -> None:
        """Read both lists; `name` is what errors call the archive. Raises InvalidDocumentError."""
        self._table = table
        self._name = name
        self._converter = Converter(table, name)
        layout = table.find(LAYOUT_FILE)
        if layout is None and _is_skopeo_directory(table):
            raise skopeo_directory(name)
        saved = saved_images(table, name)
        if layout is not None:
            check_layout_version(layout.read(), f"{name}, member {LAYOUT_FILE}")
            listed = self._read_index()
        elif saved is not None:
            listed = ()
        else:
            raise self._damaged("the archive has neither oci-layout nor manifest.json: it holds no images")
        self.entries: tuple[Entry, ...] = (*listed, *self._missing(listed, saved or (), base))

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob of at most the document cap, not verified; raises as `info` does, CorruptContentError."""
        return self.find(descriptor.digest).read()

    def info(self, digest: str) -> ContentInfo:
        """Return the size of a blob; raises InvalidDigestError and ContentNotFoundError."""
        return ContentInfo(digest, self.find(digest).size)

    def sizes(self, digests: Collection[str] | None = None) -> dict[str, int]:
        """Return the sizes of these blobs, or of all; leave out missing ones and invalid digests."""
        wanted = self._digests() if digests is None else filter(is_digest, digests)
        return {digest: blob.size for digest in wanted if (blob := self._lookup(digest)) is not None}

    def _digests(self) -> Iterator[str]:
        """Yield the digest of every blob; NAMES_LIMIT bounds their number."""
        yield from self._converter.digests()
        for name in chain(self._table.regular, self._table.links):
            directory, _, path = name.partition("/")
            if directory == BLOBS and is_digest(digest := path.replace("/", ":", 1)):
                yield digest

    def find(self, digest: str) -> Blob:
        """Return the blob with this digest; raises as `info` does."""
        validate(digest)
        blob = self._lookup(digest)
        if blob is None:
            raise ContentNotFoundError(f"archive {printable(self._name)} has no blob {digest}")
        return blob

    def _lookup(self, digest: str) -> Blob | None:
        """Return the blob with this valid digest, or None."""
        return self._table.find("/".join((BLOBS, *split(digest)))) or self._converter.find(digest)

    def _read_index(self) -> tuple[Entry, ...]:
        index = self._table.find(INDEX_FILE)
        if index is None:
            raise self._damaged(f"the archive has {LAYOUT_FILE}, but no {INDEX_FILE}")
        return parse_entries(index.read(), f"{self._name}, member {INDEX_FILE}")

    def _missing(
        self, listed: tuple[Entry, ...], saved: tuple[SavedImage, ...], base: Reference | None
    ) -> list[Entry]:
        """Return entries for the images and tags that only manifest.json has."""
        if not listed:
            return [entry for image in saved for entry in entries_of(image, self._converter.target(image))]
        configs = self._configs_by_target(listed) if saved else {}
        owners = {config: target for target in reversed(configs) for config in configs[target]}
        targets = {
            tag: entry.target
            for entry in listed
            if (tag := names_of(entry.annotations, entry.target.digest, base).tag)
        }
        missing: list[Entry] = []
        for image in saved:
            config = self._converter.image_id(image)
            owner = owners.get(config)
            tags = tuple(tag for tag in image.tags if not self._is_listed(tag, config, targets, configs))
            if tags or not (image.tags or owner):
                target = owner or self._converter.target(image)
                missing.extend(entries_of(replace(image, tags=tags), target))
        return missing

    def _configs_by_target(self, listed: tuple[Entry, ...]) -> dict[Descriptor, set[str]]:
        """Return the digests of the configs beneath each target of index.json."""
        shared = SharedDocuments()
        configs: dict[Descriptor, set[str]] = {}
        for target in dict.fromkeys(entry.target for entry in listed):
            with ImageReader(self, shared) as reader:
                configs[target] = _configs(target, reader)
        return configs

    def _is_listed(
        self, tag: str, config: str, targets: dict[str, Descriptor], configs: dict[Descriptor, set[str]]
    ) -> bool:
        """Return whether index.json has this tag; raises InvalidDocumentError if it is another image's there."""
        try:
            reference = str(parse_docker_ref(tag))
        except InvalidReferenceError:
            return False
        target = targets.get(reference)
        if target and configs[target] and config not in configs[target]:
            raise self._damaged(
                f"{INDEX_FILE} and {SAVED_FILE} say different images are {printable(reference)}"
            )
        return target is not None

    def _damaged(self, problem: str) -> InvalidDocumentError:
        return InvalidDocumentError(self._name, Reason.SYNTAX, problem)


def _configs(target: Descriptor, reader: ImageReader) -> set[str]:
    """Return the digests of the configs beneath a target; skip what cannot be read."""
    configs: set[str] = set()
    seen: set[str] = set()
    waiting = [target]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        try:
            if descriptor.media_type in INDEX_TYPES:
                waiting.extend(reader.index(descriptor).manifests)
            elif descriptor.media_type in MANIFEST_TYPES:
                configs.add(reader.manifest(descriptor).config.digest)
        except ImagekeepError:
            continue
    return configs


def _is_skopeo_directory(table: MemberTable) -> bool:
    """Return whether the archive is a tar of the output of `skopeo copy … dir:`."""
    version = table.find(SKOPEO_FILE)
    return version is not None and version.beginning().startswith(SKOPEO_MARK[:10])
