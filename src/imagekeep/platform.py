"""Platforms: specifiers, normal form and matching (Go: containerd/platforms v1.0.0-rc.5).

::

    specifier  := system | architecture | system "/" architecture ["/" variant]
    system     := name ["(" [version] ("+" feature)* ")"]      name := [A-Za-z0-9_-]+
    version, feature                                           percent-encoded, [A-Za-z0-9_.%-]
    architecture, variant                                      [A-Za-z0-9_.-]+

A specifier without a system or an architecture means the host's. Every function that needs the host takes it as an
argument, so that results depend on the machine only if the caller allows it.

`only` returns a matcher that also accepts what else a platform can run, best first::

    amd64/v3       amd64/v3, v2, v1, then 386
    arm64/v9.1     arm64/v9.1, v9, then v8.6 … v8, then arm/v8 … v5
    arm/v7         arm/v7, v6, v5
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from os import uname
from typing import TYPE_CHECKING

from imagekeep.errors import InvalidPlatformError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION_MAX = 99
"""Highest variant from which fallbacks are counted down; Go has no limit."""

# Go's targets; a specifier of one part must be one of these.
_KNOWN_SYSTEM = (
    "aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|nacl|netbsd|openbsd|plan9|solaris"
    "|windows|zos"
)
_KNOWN_ARCHITECTURE = (
    "386|amd64|amd64p32|arm(64)?(be)?|loong64|mips(64)?(le)?|mips64p32(le)?|ppc|ppc64(le)?|riscv(64)?|s390x?"
    "|sparc(64)?|wasm"
)
_SYSTEM = r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?"
_COMPONENT = r"[A-Za-z0-9_.-]+"
_ENCODED = {ord(character): f"%{ord(character):02X}" for character in "%+()/"}

_ARM_VARIANTS = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}
_ARM64_VARIANTS = {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"}

# The last minor version of each ARM architecture; each v9.x includes v8.(x + 5).
_ARM64_MINORS = {8: 9, 9: 7}
_V9_INCLUDES_V8 = 5

# The first build of Windows that runs older containers. Go's range begins at the stable build before the host's
# own; so far this is the only one.
_WINDOWS_STABLE_BUILD = 20348
_WINDOWS_VERSION_MAX = (0xFF, 0xFF, 0xFFFF)

ALL_PLATFORMS = "*"
"""Stands for every platform whose content a source has."""

_MACHINES = {"aarch64": "arm64", "loongarch64": "loong64", "x86_64": "amd64"}


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of an image (image-spec, image index, `platform`); missing parts are empty."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @staticmethod
    @functools.cache
    def host() -> Platform:
        """Return the platform of this machine, in Go's names (Go: DefaultSpec)."""
        return host_platform(uname().sysname, uname().machine)

    @staticmethod
    def parse(specifier: str, host: Platform | None = None) -> Platform:
        """Parse a specifier; missing parts are those of `host`, by default this machine (Go: Parse).

        The variant of arm stays empty if the specifier has none and it would be v7. Raises InvalidPlatformError.
        """
        name, *others = specifier.split("/")
        match = re.fullmatch(_SYSTEM, name)
        if not match or len(others) > 2 or not all(re.fullmatch(_COMPONENT, part) for part in others):
            raise _invalid(specifier, "must be system[(version+feature)][/architecture[/variant]]")
        named = Platform(
            _normalize_system(match[1]),
            "",
            os_version=_decode_option(match[2] or "", specifier),
            os_features=tuple(_decode_option(part, specifier) for part in (match[3] or "").split("+")[1:]),
        )
        if not others:
            return _complete(named, specifier, host or Platform.host())
        architecture, variant = _parse_architecture(*others)
        return replace(named, architecture=architecture, variant=variant)

    def normalize(self, host: Platform | None = None) -> Platform:
        """Return the platform in normal form; an empty system becomes the host's (Go: Normalize).

        Names are lower case, `x86_64` becomes amd64, the variants v8 of arm64 and v1 of amd64 become empty, an
        empty variant of arm becomes v7, and features are sorted and unique.
        """
        architecture, variant = _normalize_architecture(self.architecture, self.variant)
        return Platform(
            _normalize_system(self.os) if self.os else (host or Platform.host()).os,
            architecture,
            variant,
            self.os_version,
            tuple(sorted(set(self.os_features))),
        )

    def format(self) -> str:
        """Return system, architecture and variant, or `unknown` without a system (Go: Format)."""
        return _join(self.os, self.architecture, self.variant) if self.os else "unknown"

    def format_all(self) -> str:
        """Return the specifier with version and features, or `unknown` without a system (Go: FormatAll)."""
        if not self.os:
            return "unknown"
        features = sorted({feature for feature in self.os_features if feature})
        options = "+".join(option.translate(_ENCODED) for option in (self.os_version, *features))
        return _join(f"{self.os}({options})" if options else self.os, self.architecture, self.variant)


def name_of(platform: Platform | str) -> str:
    """Return the name by which a store knows a platform: its specifier in normal form.

    Two platforms with the same name select the same images. Raises InvalidPlatformError for a specifier.
    """
    found = Platform.parse(platform) if isinstance(platform, str) else platform
    return found.normalize().format_all()


@dataclass(frozen=True, slots=True)
class PlatformMatcher:
    """Matches and orders platforms (Go: MatchComparer).

    `accepted` are normalized platforms, best first; a platform without a system gets that of `host`.
    """

    accepted: tuple[Platform, ...]
    host: Platform

    def matches(self, platform: Platform) -> bool:
        """Return whether a platform is accepted."""
        return self._position(platform) is not None

    def less(self, first: Platform, second: Platform) -> bool:
        """Return whether `first` is better than `second` (Go: Less)."""
        return self.sort_key(first) < self.sort_key(second)

    def sort_key(self, platform: Platform) -> tuple[int, int, int]:
        """Return a key that sorts platforms in the order of Go's Less.

        First come those that match, in the order of the accepted platforms and then by falling number of features;
        then those that would match without their features; then all others.
        """
        position = self._position(platform)
        if position is not None:
            return 0, position, -len(platform.os_features)
        bare = self._position(replace(platform, os_features=())) if platform.os_features else None
        return (2, 0, 0) if bare is None else (1, bare, 0)

    def sort(self, platforms: Iterable[Platform]) -> list[Platform]:
        """Return the platforms, best first; equally good ones keep their order."""
        return sorted(platforms, key=self.sort_key)

    def _position(self, platform: Platform) -> int | None:
        """Return the index of the first accepted platform that matches, or None."""
        normal = platform.normalize(self.host)
        fitting = (place for place, accepted in enumerate(self.accepted) if _fits(normal, accepted))
        return next(fitting, None)


def only(platform: Platform, host: Platform | None = None) -> PlatformMatcher:
    """Return a matcher for a platform and for what else it can run (Go: Only).

    An arm64 with an unknown variant matches nothing, as in Go.
    """
    host = host or Platform.host()
    accepted = tuple(_with_fallbacks(platform.normalize(host)))
    return PlatformMatcher(tuple(each.normalize(host) for each in accepted), host)


@functools.lru_cache(maxsize=64)
def matcher_of(name: str) -> PlatformMatcher:
    """Return the matcher of a platform by the name that a store knows it by."""
    return only(Platform.parse(name))


def only_strict(platform: Platform, host: Platform | None = None) -> PlatformMatcher:
    """Return a matcher for exactly one platform, in any spelling (Go: OnlyStrict)."""
    host = host or Platform.host()
    return PlatformMatcher((platform.normalize(host),), host)


def host_platform(sysname: str, machine: str) -> Platform:
    """Return the platform of `uname`'s answer in Go's names; for ARM with the variant."""
    name, machine = sysname.lower(), machine.lower()
    if re.fullmatch(r"i[3-6]86", machine):
        return Platform(name, "386")
    if arm := re.match(r"armv([3-8])", machine):
        return Platform(name, "arm", f"v{arm[1]}")
    architecture = _MACHINES.get(machine, machine)
    return Platform(name, architecture, "v8" if architecture == "arm64" else "")


def _complete(named: Platform, specifier: str, host: Platform) -> Platform:
    """Complete a specifier of one part: a system or an architecture."""
    if re.fullmatch(_KNOWN_SYSTEM, named.os):
        variant = host.variant if host.architecture == "arm" and host.variant != "v7" else ""
        return replace(named, architecture=host.architecture, variant=variant)
    architecture, variant = _parse_architecture(specifier)
    if not re.fullmatch(_KNOWN_ARCHITECTURE, architecture):
        raise _invalid(specifier, "unknown operating system or architecture")
    return Platform(host.os, architecture, variant)


def _parse_architecture(architecture: str, variant: str | None = None) -> tuple[str, str]:
    """Return the normal form of a specifier's parts, except that v7 is not added and v8 not removed."""
    architecture, normal = _normalize_architecture(architecture, variant or "")
    if variant is None:
        return architecture, "" if (architecture, normal) == ("arm", "v7") else normal
    return architecture, "v8" if (architecture, normal) == ("arm64", "") else normal


def _normalize_system(name: str) -> str:
    lowered = name.lower()
    return "darwin" if lowered == "macos" else lowered


def _normalize_architecture(architecture: str, variant: str) -> tuple[str, str]:
    """Return the normal form of an architecture and its variant (Go: normalizeArch)."""
    architecture, variant = architecture.lower(), variant.lower()
    match architecture:
        case "i386":
            return "386", ""
        case "x86_64" | "x86-64" | "amd64":
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64":
            return "arm64", _ARM64_VARIANTS.get(variant, variant)
        case "armhf":
            return "arm", "v7"
        case "armel":
            return "arm", "v6"
        case "arm":
            return "arm", _ARM_VARIANTS.get(variant, variant)
    return architecture, variant


def _with_fallbacks(platform: Platform) -> Iterator[Platform]:
    """Yield a normalized platform and what else it can run, best first (Go: platformVector)."""
    match platform.architecture:
        case "amd64":
            yield platform
            yield from _lower_versions(platform, 1)
            yield replace(platform, architecture="386", variant="")
        case "arm":
            yield platform
            yield from _lower_versions(platform, 5)
        case "arm64":
            versions = _arm64_versions(platform.variant or "v8")
            yield from (replace(platform, variant=version) for version in versions)
            if versions:
                yield from _with_fallbacks(replace(platform, architecture="arm", variant="v8"))
        case _:
            yield platform


def _lower_versions(platform: Platform, lowest: int) -> Iterator[Platform]:
    """Yield the platform with each lower variant, down to the lowest."""
    if number := re.fullmatch(r"v?\+?0*([0-9]{1,9})", platform.variant):
        highest = min(int(number[1]) - 1, VERSION_MAX)
        yield from (replace(platform, variant=f"v{version}") for version in range(highest, lowest - 1, -1))


def _arm64_versions(variant: str) -> list[str]:
    """Return the arm64 variants that this one can run, best first; empty if it is unknown."""
    known = re.fullmatch(r"v([89])(?:\.([0-9]))?", variant)
    if known is None or int(known[2] or 0) > _ARM64_MINORS[int(known[1])]:
        return []
    major, minor = int(known[1]), int(known[2] or 0)
    versions = [(major, lower) for lower in range(minor, -1, -1)]
    if major == 9:
        versions += [(8, lower) for lower in range(min(minor + _V9_INCLUDES_V8, _ARM64_MINORS[8]), -1, -1)]
    return [f"v{major}.{minor}" if minor else f"v{major}" for major, minor in versions]


def _fits(platform: Platform, accepted: Platform) -> bool:
    """Return whether a normalized platform matches an accepted one (Go: matcher.Match)."""
    if (platform.os, platform.architecture) != (accepted.os, accepted.architecture):
        return False
    if platform.variant != accepted.variant:
        return False
    features = set(platform.os_features)
    if accepted.os == "windows":
        if not _windows_runs(accepted.os_version, platform.os_version):
            return False
        # Images have this feature from before any platform required features.
        features.discard("win32k")
    return features.issubset(accepted.os_features)


def _windows_runs(version: str, wanted: str) -> bool:
    """Return whether a Windows of this version runs containers of the wanted one, if both are known."""
    host = _windows_version(version)
    if host == (0, 0, 0) or not wanted:
        return True
    *line, build = host
    *wanted_line, wanted_build = _windows_version(wanted)
    if line != wanted_line:
        return False
    return min(build, _WINDOWS_STABLE_BUILD) <= wanted_build <= build


def _windows_version(text: str) -> tuple[int, ...]:
    """Return major, minor and build of a version such as 10.0.20348.1; zeros if it is invalid."""
    match = re.match(r"0*([0-9]{1,3})\.0*([0-9]{1,3})\.0*([0-9]{1,5})(?:\.|\Z)", text)
    numbers = tuple(int(number) for number in match.groups()) if match else (0, 0, 0)
    within = all(number <= highest for number, highest in zip(numbers, _WINDOWS_VERSION_MAX, strict=True))
    return numbers if within else (0, 0, 0)


def _decode_option(text: str, specifier: str) -> str:
    """Decode the percent-encoding of a version or a feature."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _invalid(specifier, "a percent sign must be followed by two hex digits")
    decoded = re.sub(rb"%(..)", lambda escape: bytes.fromhex(escape[1].decode()), text.encode())
    return decoded.decode(errors="replace")


def _invalid(specifier: str, why: str) -> InvalidPlatformError:
    return InvalidPlatformError(f"invalid platform {printable(specifier)}: {why}")


def _join(*parts: str) -> str:
    """Join parts as Go's path.Join does; Python's normpath may stop at a NUL."""
    joined = "/".join(part for part in parts if part)
    root = "/" if joined.startswith("/") else ""
    kept: list[str] = []
    for component in joined.split("/"):
        if component == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif component not in ("", ".") and not (component == ".." and root):
            kept.append(component)
    return root + "/".join(kept) or "."
