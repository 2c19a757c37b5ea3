"""Platforms as indexes spell them: how they are formatted and ordered, and which manifest is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.errors import ContentNotFoundError
from imagekeep.oci.image import choose_manifest
from imagekeep.oci.image_reader import ImageReader
from tests.conformance.data import Case, documents, platform_of
from tests.conformance.matchers import HOST, matcher_of
from tests.oci.blobs import Blobs, Entry, descriptor, layer

if TYPE_CHECKING:
    from imagekeep.platform import PlatformMatcher

SUBJECTS = documents("platform_format")


def each(kind: str) -> pytest.MarkDecorator:
    """Parametrize a test with every case of a kind, and the document that it is in."""
    return pytest.mark.parametrize(
        ("document", "case"),
        [
            pytest.param(document, case, id=f"{name}:{number}")
            for name, document in SUBJECTS
            for number, case in enumerate(document["cases"])
            if case["kind"] == kind and document["matchers"][case.get("matcher", 0)]["kind"] != "any"
        ],
    )


@each("format")
def test_format(document: Case, case: Case) -> None:
    platform = platform_of(document["platforms"][case["platform"]])
    normal = platform.normalize(HOST)
    assert normal == platform_of(case["normalized"])
    assert platform.format() == case["format"]
    assert platform.format_all() == case["format_all"]
    assert normal.format_all() == case["format_all_normalized"]


@each("order")
def test_order(document: Case, case: Case) -> None:
    platforms = list(map(platform_of, document["platforms"]))
    matcher = matcher_of(document["matchers"][case["matcher"]])
    assert "".join("01"[matcher.matches(platform)] for platform in platforms) == case["match"]
    assert matcher.sort(platforms) == [platforms[number] for number in case["order"]]
    if "less" in case:
        assert case["less"] == [
            "".join("01"[matcher.less(one, other)] for other in platforms) for one in platforms
        ]


class Tree:
    """The documents of a case: every manifest has a config and a layer of its own."""

    def __init__(self, document: Case, index: list[Any]) -> None:
        self.platforms: list[Entry] = document["platforms"]
        self.blobs = Blobs()
        self.configs: dict[str, int] = {}
        self.absent: list[str] = []
        self.target = descriptor(self._index(index))
        for digest in self.absent:
            del self.blobs.blobs[digest]

    def _index(self, entries: list[Any], **fields: object) -> Entry:
        return self.blobs.add_index(*map(self._entry, entries), **fields)

    def _entry(self, entry: Any) -> Entry:
        if isinstance(entry, dict):
            return self._index(entry["index"], **self._platform(entry["platform"]))
        own, of_config, *lacks = entry
        number = len(self.configs)
        config = self.platforms[of_config] | {"author": str(number)}
        manifest = self.blobs.add_manifest(layer(number), config=config, **self._platform(own))
        config_digest = list(self.blobs.blobs)[-2]
        self.configs[config_digest] = number
        if lacks:
            self.absent.append(manifest["digest"] if lacks == [1] else config_digest)
        return manifest

    def _platform(self, number: int | None) -> Entry:
        return {} if number is None else {"platform": self.platforms[number]}

    def chosen(self, matcher: PlatformMatcher) -> int | str:
        """Return the number of the manifest whose config is chosen, or not_found."""
        reader = ImageReader(self.blobs)
        try:
            chosen = choose_manifest(self.target, reader, matcher)
        except ContentNotFoundError:
            return "not_found"
        return self.configs[reader.manifest(chosen).config.digest]


@each("choose")
def test_choose(document: Case, case: Case) -> None:
    tree = Tree(document, case["index"])
    hosts = document["matchers"][: document["hosts"]]
    assert [tree.chosen(matcher_of(host)) for host in hosts] == case["chosen"]
