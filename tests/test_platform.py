"""Platforms: the host's, specifiers, and which of several is best."""

from __future__ import annotations

import platform as machine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.errors import InvalidPlatformError
from imagekeep.platform import VERSION_MAX, Platform, host_platform, only, only_strict

AMD64 = Platform("linux", "amd64")
ARM_V6 = Platform("linux", "arm", "v6")

names = st.sampled_from(["", "linux", "Windows", "macos", "amd64", "arm", "ARM64", "armhf", "386", "x/../y"])
variants = st.sampled_from(["", "v1", "v3", "8", "v8", "v8.2", "v9", "v9.7", "V7", "v999999999999", "é"])
versions = st.sampled_from(
    ["", "10.0.17763.1", "10.0.20348", "10.0.26200.5", "10.0", "9" * 5000 + ".0.0", "%"]
)
features = st.lists(st.sampled_from(["", "a", "b", "win32k", "+"]), max_size=3).map(tuple)
platforms = st.builds(Platform, names, names, variants, versions, features)


def accepted(specifier: str) -> list[str]:
    """Return the platforms that one accepts, best first."""
    return [each.format() for each in only(Platform.parse(specifier, AMD64), AMD64).accepted]


def windows_runs(host: str, container: str) -> bool:
    """Return whether a Windows host accepts an image of a version."""
    matcher = only(Platform("windows", "amd64", os_version=host), AMD64)
    return matcher.matches(Platform("windows", "amd64", os_version=container))


@pytest.mark.parametrize(
    ("sysname", "name", "expected"),
    [
        ("Linux", "x86_64", AMD64),
        ("Linux", "i686", Platform("linux", "386")),
        ("Linux", "aarch64", Platform("linux", "arm64", "v8")),
        ("Darwin", "arm64", Platform("darwin", "arm64", "v8")),
        ("Linux", "armv6l", ARM_V6),
        ("Linux", "armv7l", Platform("linux", "arm", "v7")),
        ("Linux", "loongarch64", Platform("linux", "loong64")),
        ("Linux", "s390x", Platform("linux", "s390x")),
    ],
)
def test_the_host_has_gos_names(sysname: str, name: str, expected: Platform) -> None:
    assert host_platform(sysname, name) == expected


def test_the_host_is_this_machine_unless_another_is_given() -> None:
    assert Platform.host() == host_platform(machine.system(), machine.machine())
    assert Platform.parse("linux").architecture == Platform.host().architecture
    assert Platform("", "s390x").normalize().os == Platform.host().os
    assert only(AMD64).host == only_strict(AMD64).host == Platform.host()


def test_a_system_alone_has_the_architecture_of_the_host() -> None:
    assert Platform.parse("windows", ARM_V6) == Platform("windows", "arm", "v6")


def test_a_system_alone_omits_the_hosts_arm_v7() -> None:
    assert Platform.parse("linux", Platform("linux", "arm", "v7")) == Platform("linux", "arm")


def test_an_architecture_alone_has_the_system_of_the_host() -> None:
    assert Platform.parse("riscv64", Platform("freebsd", "amd64")) == Platform("freebsd", "riscv64")


@pytest.mark.parametrize(
    "specifier",
    ["", "linux/", "linux/amd64/v1/x", "linux/*", "plan10", "linux\n", "linux/amd64\n", "linux(%2)/a"],
)
def test_an_invalid_specifier_is_refused(specifier: str) -> None:
    with pytest.raises(InvalidPlatformError):
        Platform.parse(specifier, AMD64)


def test_an_invalid_specifier_is_shown_without_its_control_characters() -> None:
    with pytest.raises(InvalidPlatformError, match=r"\\x1b\[31m"):
        Platform.parse("\x1b[31m", AMD64)


def test_a_version_may_be_percent_encoded_bytes_of_any_kind() -> None:
    assert Platform.parse("linux(%C3%A9%ff)/arm64", AMD64).os_version == "é\N{REPLACEMENT CHARACTER}"


@given(platforms)
def test_the_normal_form_is_its_own_normal_form(platform: Platform) -> None:
    normal = platform.normalize(AMD64)
    assert normal.normalize(AMD64) == normal


@given(platforms)
def test_a_platform_accepts_itself_unless_it_is_an_unknown_arm64(platform: Platform) -> None:
    normal = platform.normalize(AMD64)
    assert only_strict(platform, AMD64).matches(normal)
    unknown = normal.architecture == "arm64" and normal.variant not in ("", "v8.2", "v9", "v9.7")
    assert only(platform, AMD64).matches(normal) != unknown


@given(platforms, st.lists(platforms, max_size=6))
def test_sorting_puts_those_that_match_first(platform: Platform, candidates: list[Platform]) -> None:
    matcher = only(platform, AMD64)
    matching = [matcher.matches(candidate) for candidate in matcher.sort(candidates)]
    assert matching == sorted(matching, reverse=True)


def test_equally_good_platforms_keep_their_order() -> None:
    candidates = [Platform("linux", "amd64", "v1"), AMD64, Platform("LINUX", "x86_64")]
    matcher = only(AMD64, AMD64)
    assert matcher.sort(candidates) == candidates
    assert matcher.sort(reversed(candidates)) == candidates[::-1]


def test_features_decide_among_otherwise_equal_platforms() -> None:
    wanted = Platform("linux", "amd64", os_features=("a", "b"))
    both, one, none = wanted, Platform("linux", "amd64", os_features=("a",)), AMD64
    foreign = Platform("linux", "amd64", os_features=("c",))
    other = Platform("linux", "s390x", os_features=("a", "b"))
    assert only(wanted, AMD64).sort([other, foreign, none, one, both]) == [both, one, none, foreign, other]


def test_amd64_falls_back_version_by_version_and_then_to_386() -> None:
    assert accepted("linux/amd64/v3") == ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]


def test_arm64_v9_falls_back_to_what_v8_it_includes_and_then_to_arm() -> None:
    expected = "arm64/v9.1 arm64/v9 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64"
    expected += " arm/v8 arm/v7 arm/v6 arm/v5"
    assert accepted("linux/arm64/v9.1") == [f"linux/{name}" for name in expected.split()]


def test_the_last_arm64_v9_includes_no_v8_beyond_the_last() -> None:
    assert next(name for name in accepted("linux/arm64/v9.7") if "v8." in name) == "linux/arm64/v8.9"


@pytest.mark.parametrize("variant", ["v10", "v8.10", "v9.8", "8.1", "x"])
def test_an_unknown_arm64_accepts_nothing_unless_strictly(variant: str) -> None:
    platform = Platform("linux", "arm64", variant)
    assert not only(platform, AMD64).matches(platform)
    assert only_strict(platform, AMD64).matches(platform)


def test_an_absurd_version_counts_down_from_a_bound() -> None:
    assert len(accepted("linux/amd64/v999999999")) == VERSION_MAX + 2


@pytest.mark.parametrize(
    ("host", "container", "expected"),
    [
        ("10.0.17763.1", "10.0.17763.5820", True),
        ("10.0.17763.1", "10.0.17762.1", False),
        ("10.0.20348.1", "10.0.20347", False),
        ("10.0.22621", "10.0.20348.1", True),
        ("10.0.22621", "10.0.22622", False),
        ("10.0.26100", "10.0.20348", True),
        ("10.0.26200", "10.0.20348", True),
        ("10.0.26200", "10.1.20348", False),
        ("10.0.26200", "no version", False),
        ("10.0.26200", "", True),
        ("10.0", "10.0.1", True),
        ("10.0.99999", "10.0.1", True),
        ("10.0." + "0" * 5000 + "26200", "10.0.20348", True),
        ("10.0." + "9" * 5000, "10.0.1", True),
    ],
)
def test_windows_runs_the_builds_since_the_stable_one(host: str, container: str, expected: bool) -> None:
    assert windows_runs(host, container) is expected


def test_only_windows_ignores_win32k() -> None:
    for system, expected in (("windows", True), ("linux", False)):
        candidate = Platform(system, "amd64", os_features=("win32k",))
        assert only(Platform(system, "amd64"), AMD64).matches(candidate) is expected


def test_dots_in_a_specifier_are_resolved_as_in_a_path() -> None:
    formats = [
        Platform(*parts).format() for parts in (("linux", ".."), ("..", "a"), ("/..", "a"), ("//a", "."))
    ]
    assert formats == [".", "../a", "/a", "/a"]
