"""The image that a user's word stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.errors import ImageNotFoundError

if TYPE_CHECKING:
    from imagekeep.image import Image
    from imagekeep.reader import Reader


def find_image(reader: Reader, name: str) -> Image:
    """Return the image of a reference spelt exactly so, else as Reader.local_resolve does; raises as that."""
    try:
        return reader.get(reader.resolve(name))
    except ImageNotFoundError:
        return reader.local_resolve(name)
