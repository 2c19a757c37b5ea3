"""The matchers of containerd/platforms on a linux/amd64 host, except `Any`; imagekeep needs only `Only`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.platform import Platform, PlatformMatcher, only, only_strict
from tests.conformance.data import platform_of

if TYPE_CHECKING:
    from tests.conformance.data import Case

HOST = Platform("linux", "amd64")


class Everything(PlatformMatcher):
    """Accepts every platform alike (Go: All)."""

    def matches(self, platform: Platform) -> bool:
        return True

    def sort_key(self, platform: Platform) -> tuple[int, int, int]:
        return 0, 0, 0


EVERYTHING = Everything((), HOST)


def matcher_of(case: Case) -> PlatformMatcher:
    """Return the matcher of a case: its kind, and the platforms that it is made of."""
    platforms = [platform_of(spec) for spec in case.get("specs", ())]
    accepted = tuple(platform.normalize(HOST) for platform in platforms)
    match case["kind"]:
        case "only":
            return only(platforms[0], HOST)
        case "only_strict":
            return only_strict(platforms[0], HOST)
        case "ordered":
            return PlatformMatcher(accepted, HOST)
    return EVERYTHING
