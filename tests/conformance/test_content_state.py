"""The state of each platform in a store is what containerd's Check finds, except where that misleads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import ImagekeepError, Store
from imagekeep.oci.image import choose_manifest
from tests.conformance.content import REFERENCE, Tree, matcher_of
from tests.conformance.content_departures import departure_of_state
from tests.conformance.data import cases

if TYPE_CHECKING:
    from pathlib import Path

    from imagekeep import TargetPlatform
    from imagekeep.oci.descriptor import Descriptor
    from tests.conformance.data import Case

TREES = pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases("content_check")]
)


def chosen(tree: Tree, specifier: str) -> Descriptor | None:
    try:
        return choose_manifest(tree.target, tree.reader, matcher_of(specifier))
    except ImagekeepError:
        return None


def state_in(check: Case, tree: Tree) -> Any:
    """Return the state and the missing blobs, each once, in an answer of Check; None if it has no manifest."""
    if "class" in check:
        return "error"
    missing = set(tree.digests(check["missing"]))
    return ("partial" if missing else "complete", len(missing)) if check["available"] else None


def known_platforms(path: Path, tree: Tree, specifiers: list[str]) -> list[TargetPlatform] | None:
    """Update a store of these platforms; return what it knows of the target, None if no platform has an image."""
    with Store.open(path, source=tree, platforms=specifiers) as store:
        try:
            store.update(REFERENCE)
        except ImagekeepError:
            return None
        return store.platforms(REFERENCE)


@TREES
def test_state(volatile_path: Path, case: Case) -> None:
    tree = Tree(case)
    specifiers = [specifier for specifier in case["by_platform"] if specifier != "all"]
    known = known_platforms(volatile_path, tree, specifiers)
    for specifier in specifiers if known is not None else ():
        theirs = state_in(case["by_platform"][specifier]["check"], tree)
        manifest = chosen(tree, specifier)
        if manifest is None:
            assert theirs in (None, "error")
            continue
        (ours,) = {(row.state, row.absent) for row in known or () if row.manifest_digest == manifest.digest}
        assert ours == theirs or departure_of_state(tree, manifest)


@TREES
def test_the_image_of_each_kept_platform_is_chosen(volatile_path: Path, case: Case) -> None:
    tree = Tree(case)
    specifiers = [specifier for specifier in case["by_platform"] if specifier != "all"]
    with Store.open(volatile_path, source=tree, platforms=specifiers) as store:
        results = store.update_platforms(REFERENCE)
        stored = [name for name, result in results.items() if not isinstance(result, ImagekeepError)]
        ids = {store.resolve(REFERENCE, platform=name) for name in stored}
        assert not ids or {row.image_id for row in store.platforms(REFERENCE) if row.chosen} == ids
