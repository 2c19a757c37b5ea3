"""Reads a target at its source: the image for each platform, and everything that the target is made of.

The documents of a target are read once, whichever platforms ask for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import ImagekeepError, InvalidPlatformError
from imagekeep.image import Observation, observed_of
from imagekeep.oci.image import ImageFacts, image_or_error
from imagekeep.oci.image_reader import ImageReader
from imagekeep.oci.target import TRIES_LIMIT, read_target
from imagekeep.platform import ALL_PLATFORMS, matcher_of, name_of
from imagekeep.sources.protocol import ContentLister, contents_of, optional_answer

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from imagekeep.image import ImageRecord
    from imagekeep.oci.content import ContentReader
    from imagekeep.oci.descriptor import Descriptor
    from imagekeep.oci.image_reader import SharedDocuments
    from imagekeep.oci.target import TargetFacts


class TargetReading(NamedTuple):
    """The image of a target for each platform, or the error of reading it, and what the target consists of."""

    images: Mapping[str, ImageFacts | ImagekeepError]
    asked: tuple[str, ...]
    facts: TargetFacts

    def with_presence(self, content: ContentReader, listed: Container[str] = ()) -> TargetReading:
        """Return the same reading, and which of its blobs the source has, if the source can tell.

        Only blobs that were not looked for as documents are asked for, and none of those in `listed`.
        """
        known = self.facts.presence()
        unread = [digest for digest, present in known.items() if present is None]
        asked = [digest for digest in unread if digest not in listed]
        if len(asked) > TRIES_LIMIT and not isinstance(content, ContentLister):
            return self
        sizes = optional_answer("blobs", contents_of, content, asked) if asked else {}
        if sizes is None:
            return self
        others = (digest for digest in unread if digest in listed)
        return self._replace(facts=self.facts.with_present({*filter(known.get, known), *sizes, *others}))


def observe_target(
    target: Descriptor,
    content: ContentReader,
    platforms: Sequence[str],
    shared: SharedDocuments | None = None,
) -> TargetReading:
    """Read a target for these platforms; with ALL_PLATFORMS also for each one that it has a manifest for.

    Targets read with the same `shared` share its limits. Raises what the content raises, except that a document is
    missing or broken.
    """
    with ImageReader(content, shared) as reader:
        named = [name for name in platforms if name != ALL_PLATFORMS]
        images = {name: image_or_error(target, reader, matcher_of(name)) for name in named}
        facts = read_target(target, reader)
        if ALL_PLATFORMS in platforms:
            found = [name for name in _platforms_of(facts) if name not in images]
            images |= {name: image_or_error(target, reader, matcher_of(name)) for name in found}
    return TargetReading(images, (*platforms, *images), facts)


def _platforms_of(facts: TargetFacts) -> Iterator[str]:
    """Yield the platforms of the manifests that could be read, each once, attestations left out."""
    names = (
        entry.platform
        for entry in facts.entries
        if entry.digest in facts.manifests and entry.platform and not entry.is_attestation
    )
    for name in dict.fromkeys(names):
        try:
            yield name_of(name)
        except InvalidPlatformError:  # an index may say anything
            continue


def observation_of(record: ImageRecord, reading: TargetReading) -> Observation:
    """Return what a record and the reading of its target say of its reference."""
    images = {
        name: observed_of(record, image) if isinstance(image, ImageFacts) else image
        for name, image in reading.images.items()
    }
    return Observation(images, reading.asked, reading.facts)
