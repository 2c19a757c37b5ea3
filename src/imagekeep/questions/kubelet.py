"""What a kubelet would remove next: its image garbage collection as pure functions.

After pkg/kubelet/images/image_gc_manager.go of Kubernetes. Candidates are the images that no container uses and
that are not pinned; the least recently used go first, those never used before all, then those detected first.
If a maximum age is set, those unused for longer go at once; then, if the disk is used to the high threshold,
candidates go until enough is freed to reach the low one. The kubelet adds up the sizes that the runtime reports, so
layers that several images share count several times. All times are nanoseconds, all sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imagekeep.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIN_AGE_DEFAULT: Final = 120 * 1_000_000_000
"""The kubelet's imageMinimumGCAge."""


@dataclass(frozen=True, slots=True)
class Collectable:
    """An image as the kubelet's collector sees it."""

    image_id: str
    size: int
    first_detected: int
    last_used: int | None = None
    pinned: bool = False
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The kubelet's settings: thresholds in percent, ages in nanoseconds; a maximum age of 0 is off.

    The defaults are the kubelet's own.
    """

    high: int = 85
    low: int = 80
    min_age: int = MIN_AGE_DEFAULT
    max_age: int = 0

    def __post_init__(self) -> None:
        """Raise InvalidArgumentError for thresholds that the kubelet refuses."""
        for name, percent in (("high", self.high), ("low", self.low)):
            if not 0 <= percent <= 100:
                raise InvalidArgumentError(f"invalid {name} threshold {percent}: must be from 0 to 100")
        if self.low > self.high:
            raise InvalidArgumentError(f"the low threshold, {self.low}, is above the high one, {self.high}")


def eviction_order(images: Iterable[Collectable]) -> list[Collectable]:
    """Return the candidates, the first to go first; ties, which the kubelet breaks at random, by id."""
    candidates = [image for image in images if not (image.pinned or image.in_use)]
    return sorted(candidates, key=_eviction_key)


def _eviction_key(image: Collectable) -> tuple[bool, int, int, str]:
    return image.last_used is not None, image.last_used or 0, image.first_detected, image.image_id


def too_old(ordered: Sequence[Collectable], policy: Policy, now: int, began: int) -> list[Collectable]:
    """Return the candidates that go for their age, whatever space there is.

    Nothing goes until the collector has run for the maximum age since `began`. An image never seen in use counts as
    unused for ever.
    """
    if not policy.max_age or now - began <= policy.max_age:
        return []
    return [image for image in ordered if image.last_used is None or now - image.last_used > policy.max_age]


def bytes_to_free(capacity: int, available: int, policy: Policy) -> int | None:
    """Return how much to free to get to the low threshold, or None below the high one.

    Usage is rounded up to whole percents. Raises InvalidArgumentError without a capacity.
    """
    if capacity <= 0:
        raise InvalidArgumentError("the size of the image filesystem is unknown (use --free)")
    available = min(available, capacity)
    if usage_percent(capacity, available) < policy.high:
        return None
    return capacity * (100 - policy.low) // 100 - available


def usage_percent(capacity: int, available: int) -> int:
    """Return the used part of a filesystem in percent, rounded up as the kubelet does: 84.1 is 85."""
    return 100 - available * 100 // capacity


def spared(image: Collectable, policy: Policy, now: int) -> bool:
    """Return whether a candidate is passed over when space is needed: in use just now, or detected too recently."""
    used_now = image.last_used is not None and image.last_used >= now
    return used_now or now - image.first_detected < policy.min_age


def to_free(ordered: Iterable[Collectable], policy: Policy, now: int, target: int) -> list[Collectable]:
    """Return the candidates that go to free `target` bytes, or all that may go if that is not enough.

    One image goes even for a target of zero or less, as in the kubelet: it counts after it has removed one.
    """
    chosen: list[Collectable] = []
    freed = 0
    for image in ordered:
        if spared(image, policy, now):
            continue
        chosen.append(image)
        freed += image.size
        if freed >= target:
            break
    return chosen
