"""Decides what an update does to a reference, from its state in the store and at the source, without I/O.

The cases are those of containerd's update (internal/cri/store/image/image.go)::

    in the store       at the source        transition
    ---------------------------------------------------
    image A            image A, same pin    UNCHANGED
    image A            image A, other pin   PINNED or UNPINNED
    image A            image B              MOVED
    image A            -                    VANISHED
    -                  image A              NEW
    -                  -                    ABSENT

For example, if `latest` names image A and pins it, `decide(ReferenceState(A, True), ReferenceState(B, False))` is
MOVED: the pin is deleted, image A too if this was its last reference, and image B is not pinned.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imagekeep.image import ObservedImage
    from imagekeep.oci.target import TargetFacts


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
        """Return whether the store has changed."""
        return self not in (Transition.UNCHANGED, Transition.ABSENT)


class KeptPlatform(NamedTuple):
    """A platform for which a store keeps images: its key in the file, 0 for the first, and its specifier.

    The name is None until the first update says which platform the store keeps.
    """

    key: int
    name: str | None


FIRST = KeptPlatform(0, None)


class ReferenceState(NamedTuple):
    """The image that a reference names for a platform, and whether it pins it.

    If the state is from a source, also the target, and the manifest chosen beneath it: None if the store has not
    read everything beneath the target, and empty if it could not keep what the manifest says.
    """

    image_id: str
    pinned: bool
    target_digest: str | None = None
    manifest_digest: str | None = None

    def has_read(self, target_digest: str | None) -> bool:
        """Return whether this is the state that was read from a target, and everything beneath it was read."""
        return self.target_digest == target_digest is not None and self.manifest_digest is not None

    def with_pin(self, pinned: bool) -> ReferenceState:
        """Return the same state with this pin."""
        return self if pinned == self.pinned else self._replace(pinned=pinned)


class ReferenceChange(NamedTuple):
    """A change of one reference between two states, for one platform; the state of a missing reference is None.

    `image` is the new image, or None if the change needs none; `target` is what the target is made of, if it was
    read.
    """

    reference: str
    transition: Transition
    before: ReferenceState | None
    after: ReferenceState | None
    image: ObservedImage | None = None
    platform: KeptPlatform = FIRST
    target: TargetFacts | None = None

    @property
    def target_digest(self) -> str | None:
        """Return the target at the source; None if the source was not asked or has no such reference."""
        return self.after.target_digest if self.after else None

    @property
    def pins(self) -> bool:
        """Return whether a pin is added."""
        return self.after is not None and self.after.pinned and not (self.before and self.before.pinned)

    @property
    def unpins(self) -> bool:
        """Return whether the pin of a remaining reference is removed."""
        return self.before is not None and self.before.pinned and bool(self.after and not self.after.pinned)

    @property
    def only_verifies(self) -> bool:
        """Return whether the source confirms the stored state, so that only the time is new."""
        return self.before == self.after and self.target_digest is not None

    @property
    def moved_locally(self) -> bool:
        """Return whether the reference moves without its source having been asked."""
        return self.transition is Transition.MOVED and self.target_digest is None

    @property
    def event(self) -> str | None:
        """Return the event for the history, or None if nothing happened.

        If the target changes but the platform's image does not, the transition is UNCHANGED, as in containerd.
        The history records `retargeted`, because it answers which target a reference had when.
        """
        if self.transition.changed:
            return self.transition.value
        before = self.before.target_digest if self.before else None
        return "retargeted" if before and self.target_digest not in (None, before) else None


def decide(before: ReferenceState | None, after: ReferenceState | None) -> Transition:
    """Return the transition from the state in the store to the one at the source."""
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
    reference: str,
    before: ReferenceState | None,
    observed: ObservedImage | None,
    platform: KeptPlatform = FIRST,
    target: TargetFacts | None = None,
) -> ReferenceChange:
    """Return the change that updates `reference` to what was observed at its source for a platform."""
    after = (
        ReferenceState(observed.id, observed.pinned, observed.target_digest, observed.manifest_digest)
        if observed
        else None
    )
    return ReferenceChange(reference, decide(before, after), before, after, observed, platform, target)
