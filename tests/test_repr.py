"""No repr shows a config document, whose environment may hold secrets."""

from __future__ import annotations

import pytest

from imagekeep import Descriptor, Image, ImageRecord, ObservedImage
from imagekeep.oci.image import ImageFacts

ID = f"sha256:{'a' * 64}"
SECRET = b"PASSWORD=hunter2"
TARGET = Descriptor("application/vnd.oci.image.config.v1+json", ID, len(SECRET), SECRET)


@pytest.mark.parametrize(
    "carrier",
    [
        TARGET,
        ImageRecord("hello:v1", TARGET),
        ImageFacts(id=ID, chain_id="", size=1, config_json=SECRET),
        ObservedImage(ID, "", 1, SECRET, ID),
        Image(ID, ("hello:v1",), "", 1, pinned=False, config_json=SECRET),
    ],
    ids=lambda carrier: type(carrier).__name__,
)
def test_repr_omits_documents(carrier: object) -> None:
    assert ID in repr(carrier)
    assert "hunter2" not in repr(carrier)
