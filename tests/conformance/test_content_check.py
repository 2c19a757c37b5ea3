"""What is present of an image, by platform: core/images and core/images/usage over partial content."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from imagekeep.digest import is_digest
from imagekeep.errors import ImagekeepError
from imagekeep.oci.documents import MANIFEST_TYPES, parse_manifest
from imagekeep.oci.image import choose_manifest, compressed_size, preference
from tests.conformance.content import Tree, descriptor_of, matcher_of
from tests.conformance.content_departures import departure_of_platforms
from tests.conformance.data import cases, platform_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagekeep.platform import PlatformMatcher
    from tests.conformance.data import Case

Answer = TypeVar("Answer")

TREES = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases("content_check")]
)


@TREES
def test_children(case: Case) -> None:
    tree = Tree(case)
    beneath = {tree.target.digest, *(entry.digest for entry in tree.facts.entries)}
    for number, children in case["children"]:
        node = case["descriptors"][number]
        if node["digest"] not in beneath:
            continue  # a layer that looks like a manifest, which we do not follow
        if isinstance(children, dict):
            assert node["digest"] not in tree.facts.manifests
        elif node["mediaType"] in MANIFEST_TYPES:
            assert parts_of(tree, node["digest"]) == list(map(valid_or_none, tree.digests(children)))
        else:
            entries = tree.reader.index(descriptor_of(node)).manifests
            assert [entry.digest for entry in entries] == tree.digests(children)


def parts_of(tree: Tree, digest: str) -> list[str | None]:
    """Return a manifest's config and layers; a manifest without a config has no facts."""
    if manifest := tree.facts.manifests.get(digest):
        return [manifest.config, *manifest.layers]
    document = parse_manifest(tree.documents[digest], digest)
    assert not is_digest(document.config.digest)
    return [None, *(layer.digest for layer in document.layers)]


def valid_or_none(digest: str) -> str | None:
    return digest if is_digest(digest) else None


@TREES
def test_entries_by_preference(case: Case) -> None:
    tree = Tree(case)
    for specifier, answer in case["by_platform"].items():
        matcher = matcher_of(specifier)
        for number, everything, filtered in answer.get("order", ()):
            entries = tree.reader.index(descriptor_of(case["descriptors"][number])).manifests
            ordered = sorted(entries, key=lambda entry: preference(matcher, entry))
            assert [entry.digest for entry in ordered] == tree.digests(everything)
            fitting = [
                entry for entry in ordered if entry.platform is None or matcher.matches(entry.platform)
            ]
            assert [entry.digest for entry in fitting] == tree.digests(filtered)


@TREES
def test_config(case: Case) -> None:
    tree = Tree(case)
    found = {
        specifier: unless_it_fails(
            lambda matcher: tree.reader.manifest(choose_manifest(tree.target, tree.reader, matcher)),
            specifier,
        )
        for specifier in case["by_platform"]
    }
    assert {specifier: manifest and manifest.config.digest for specifier, manifest in found.items()} == {
        specifier: None if isinstance(answer["config"], dict) else tree.digests([answer["config"]])[0]
        for specifier, answer in case["by_platform"].items()
    }


@TREES
def test_size(case: Case) -> None:
    tree = Tree(case)
    found = {
        specifier: unless_it_fails(
            lambda matcher: compressed_size(tree.target, tree.reader, matcher), specifier
        )
        for specifier in case["by_platform"]
    }
    assert found == {
        specifier: None if isinstance(answer["usage"], dict) else answer["usage"]
        for specifier, answer in case["by_platform"].items()
    }


def unless_it_fails(function: Callable[[PlatformMatcher], Answer], specifier: str) -> Answer | None:
    """Return an answer for a platform, or None if the image cannot be read."""
    try:
        return function(matcher_of(specifier))
    except ImagekeepError:
        return None


@TREES
def test_platforms(case: Case) -> None:
    tree = Tree(case)
    said = case["platforms"]
    theirs = None if isinstance(said, dict) else [platform_of(each).normalize().format_all() for each in said]
    entries = tree.facts.entries
    ours = [entry.platform for entry in entries if entry.platform and not entry.is_attestation]
    # A departure need not change the answer of every tree that meets it.
    assert ours == theirs or departure_of_platforms(tree)
