"""What an update does to one reference: decided from two states, without I/O.

containerd's update tells five cases apart (internal/cri/store/image/image.go, update)::

    the store says     the source says      transition
    ------------------------------------------------------------------------------
    image A            nothing              VANISHED (of what was never there: ABSENT)
    image A            image A, same pin    UNCHANGED
    image A            image A, other pin   PINNED or UNPINNED
    image A            image B              MOVED
    nothing            image A              NEW

For example, with `latest` on image A and pinned, `decide(State(A, pinned=True), State(B, pinned=False))` is
MOVED: the reference leaves A, and A goes if that was its last; its pin goes with it, and B gets none.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imagekeep.image import ObservedImage


class Transition(enum.StrEnum):
    """What an update did to a reference."""

    NEW = "new"
    MOVED = "moved"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    UNCHANGED = "unchanged"
    VANISHED = "vanished"
    ABSENT = "absent"

    @property
    def changed(self) -> bool:
        """Return whether the store says something else than before."""
        return self not in (Transition.UNCHANGED, Transition.ABSENT)


class ReferenceState(NamedTuple):
    """What is said of one reference: its image and its pin.

    Where a source was asked, also its target, and the platform for which the image was chosen beneath it.
    """

    image_id: str
    pinned: bool
    target_digest: str | None = None
    platform: str | None = None

    def with_pin(self, pinned: bool) -> ReferenceState:
        """Return the state that differs in nothing but the pin."""
        return self if pinned == self.pinned else self._replace(pinned=pinned)


class ReferenceChange(NamedTuple):
    """One reference on its way from a state to another; None is a reference that is not there.

    `image` has the facts of the image, which the store may not know yet; None where the change needs none.
    """

    reference: str
    transition: Transition
    before: ReferenceState | None
    after: ReferenceState | None
    image: ObservedImage | None = None

    @property
    def target_digest(self) -> str | None:
        """Return the target that the source has just said, or None where it was not asked or has none."""
        return self.after.target_digest if self.after else None

    @property
    def pins(self) -> bool:
        """Return whether the reference begins to pin."""
        return self.after is not None and self.after.pinned and not (self.before and self.before.pinned)

    @property
    def unpins(self) -> bool:
        """Return whether the reference, which stays, pins no more."""
        return self.before is not None and self.before.pinned and bool(self.after and not self.after.pinned)

    @property
    def only_verifies(self) -> bool:
        """Return whether the source has said again what the store has of it, so that only the time is new."""
        return self.before == self.after and self.target_digest is not None

    @property
    def moved_locally(self) -> bool:
        """Return whether the reference moves without its source having been asked."""
        return self.transition is Transition.MOVED and self.target_digest is None

    @property
    def event(self) -> str | None:
        """Return what the history says happened, or None where nothing did.

        A reference that points at another index, of which this platform's image is the same, is unchanged for
        containerd; the history says `retargeted`, for its answer to "which target, when" would be wrong.
        """
        if self.transition.changed:
            return self.transition.value
        before = self.before.target_digest if self.before else None
        return "retargeted" if before and self.target_digest not in (None, before) else None


def decide(before: ReferenceState | None, after: ReferenceState | None) -> Transition:
    """Tell which transition leads from what the store says to what the source says."""
    if after is None:
        return Transition.ABSENT if before is None else Transition.VANISHED
    if before is None:
        return Transition.NEW
    if before.image_id != after.image_id:
        return Transition.MOVED
    if before.pinned != after.pinned:
        return Transition.PINNED if after.pinned else Transition.UNPINNED
    return Transition.UNCHANGED


def change_to(
    reference: str, before: ReferenceState | None, observed: ObservedImage | None, platform: str
) -> ReferenceChange:
    """Return the change that makes the store say of `reference` what was observed at its source."""
    after = (
        ReferenceState(observed.id, observed.pinned, observed.target_digest, platform) if observed else None
    )
    return ReferenceChange(reference, decide(before, after), before, after, observed)
