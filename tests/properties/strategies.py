"""Strategies for operations, batches, and ids that share leading parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from imagekeep.digest import ENCODED_LENGTHS
from tests.model import IMAGES, REFERENCES, Operations

if TYPE_CHECKING:
    from imagekeep import ObservedImage

randoms = st.randoms(use_true_random=False)
operations = st.lists(randoms.map(lambda random: Operations(random).draw()), max_size=25)

references = st.sampled_from(REFERENCES)
image_ids = randoms.map(lambda random: Operations(random).image_id())


@st.composite
def observations(draw: st.DrawFn) -> ObservedImage | None:
    """Draw what may be observed of a reference; an image always has the same size."""
    image = draw(st.none() | st.sampled_from(IMAGES[:4]))
    return image and replace(image, pinned=draw(st.booleans()))


batches = st.dictionaries(st.sampled_from(REFERENCES[:6]), observations(), max_size=6)


@st.composite
def digests(draw: st.DrawFn) -> str:
    """Draw a digest of any algorithm that shares a leading part with many others."""
    algorithm, length = draw(st.sampled_from(sorted(ENCODED_LENGTHS.items())))
    beginning = draw(st.text("0f", max_size=3))
    return f"{algorithm}:{beginning.ljust(length, draw(st.sampled_from('0f')))}"


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a leading part of a digest, with its algorithm, another or none."""
    _, _, encoded = draw(digests()).partition(":")
    length = draw(st.sampled_from([1, 2, 3, 4, 63, 64, 65, 95, 96, 97, 127, 128]))
    return draw(st.sampled_from(["", "sha256:", "sha384:", "sha512:", "md5:"])) + encoded[:length]
