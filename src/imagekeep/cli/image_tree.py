"""`imagekeep images --tree`: what images are made of, down to their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from imagekeep.cli.formats import human_size, truncate
from imagekeep.database.platform_content import platforms_of
from imagekeep.database.tree import layers_of, shared_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from imagekeep.database.driver import sqlite
    from imagekeep.database.tree import Layer
    from imagekeep.platform_content import TargetPlatform
    from imagekeep.questions.listed import ListedImage

UNKNOWN = "unknown"
_BRANCH, _LAST, _BAR, _GAP = "├─ ", "└─ ", "│  ", "   "


class Tree(NamedTuple):
    """Writes trees; `shared` says how many images a layer belongs to, if to several."""

    cursor: sqlite.Cursor
    shared: Mapping[str, int]
    truncated: bool

    def image(self, image: ListedImage) -> Iterator[str]:
        """Yield the lines of an image: each target with its names, its platforms, and their layers."""
        names: dict[str | None, list[str]] = {}
        for name, target in zip(image.references, image.targets, strict=True):
            names.setdefault(target, []).append(name)
        for target, references in names.items():
            yield f"{' '.join(references)}  {self._digest(target)}"
            platforms = platforms_of(self.cursor, references[0]) if target else []
            for number, platform in enumerate(platforms, 1):
                yield from self._platform(platform, is_last=number == len(platforms))

    def _platform(self, platform: TargetPlatform, *, is_last: bool) -> Iterator[str]:
        chosen = "  selected" if platform.chosen else ""
        facts = (
            f"{self._digest(platform.manifest_digest)}  {_size(platform.size)}  {platform.state or UNKNOWN}"
        )
        yield f"{_LAST if is_last else _BRANCH}{platform.platform or UNKNOWN}  {facts}{chosen}"
        layers = layers_of(self.cursor, platform.manifest_digest)
        for number, layer in enumerate(layers, 1):
            branch = _LAST if number == len(layers) else _BRANCH
            yield f"{_GAP if is_last else _BAR}{branch}{self._layer(layer)}"

    def _layer(self, layer: Layer) -> str:
        absent = "  absent" if layer.present is False else ""
        images = self.shared.get(layer.digest)
        shared = f"  shared by {images} images" if images else ""
        return f"{self._digest(layer.digest)}  {_size(layer.size)}{absent}{shared}"

    def _digest(self, digest: str | None) -> str:
        if digest is None:
            return UNKNOWN
        return truncate(digest) if self.truncated else digest


def tree_of(cursor: sqlite.Cursor, images: Sequence[ListedImage], truncated: bool) -> list[str]:
    """Return the lines of a tree of images."""
    tree = Tree(cursor, shared_layers(cursor), truncated)
    shown: dict[tuple[tuple[str, ...], tuple[str | None, ...]], ListedImage] = {}
    for image in images:  # the images of a target for several platforms have one tree
        shown.setdefault((image.references, image.targets), image)
    return [line for image in shown.values() for line in tree.image(image)]


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else human_size(size)
