"""The users of images, which stand in their configs, kept so that a list needs no config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.cri.replies import User, user_of
from imagekeep.errors import ImageNotFoundError, InvalidDocumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imagekeep.image import Image, ImageSummary
    from imagekeep.reader import Reader

NOBODY = User()


class Users:
    """Finds the users of images; a config never changes under its id, so what was read once stays true.

    It keeps as many as the last list had.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, User] = {}

    def of(self, image: Image) -> User:
        """Return the user of an image whose config is at hand; none where the config is none.

        A config that cannot be read comes from a program that wrote the file itself, and is no reason to answer
        nothing at all.
        """
        known = self._known.get(image.id)
        if known is not None:
            return known
        try:
            return user_of(image.config_json, image.id)
        except InvalidDocumentError:
            return NOBODY

    def of_all(self) -> Iterable[tuple[ImageSummary, User]]:
        """Return every image of one state of the store, in the order of ids, each with its user."""
        images = self._reader.summaries()
        try:
            self._known = {image.id: self._known.get(image.id) or self._read(image.id) for image in images}
        except ImageNotFoundError:
            # One of them went before its config was read, so that another state has to be looked at.
            return self._with_configs()
        return [(image, self._known[image.id]) for image in images]

    def _read(self, image_id: str) -> User:
        return self.of(self._reader.get(image_id))

    def _with_configs(self) -> Iterator[tuple[ImageSummary, User]]:
        return ((image, self.of(image)) for image in self._reader.iter())
