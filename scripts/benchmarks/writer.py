"""A process that updates continuously: `python -m benchmarks.writer PATH FIRST`; see `benchmarks.child`."""

from __future__ import annotations

import json
import sys
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.child import ASKED, repeat
from benchmarks.corpus import PLATFORM, made_images
from benchmarks.writes import observation
from imagekeep.internals import lock_references
from imagekeep.store import Store

if TYPE_CHECKING:
    from imagekeep.image import ObservedImage


def write(path: Path, first: int) -> dict[str, Any]:
    """Update new references, each durably."""
    # The second pass finds them unchanged, which still writes.
    images = cycle([(image.tag, observation(image, image.tag)) for image in made_images(2 * ASKED, first)])
    with Store.open(path, platform=PLATFORM) as store:

        def update(made: tuple[str, ObservedImage]) -> None:
            name, observed = made
            with lock_references(store, [name]):
                store.apply(name, observed)

        return repeat(update, images)


if __name__ == "__main__":
    print(json.dumps(write(Path(sys.argv[1]), int(sys.argv[2]))))
