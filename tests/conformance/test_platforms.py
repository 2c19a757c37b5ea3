"""Platforms: the answers of containerd/platforms on a linux/amd64 host."""

from __future__ import annotations

from typing import Any

import pytest

from imagekeep.errors import InvalidPlatformError
from imagekeep.platform import Platform, PlatformMatcher, only, only_strict
from tests.conformance.data import Case, cases, platform_of

HOST = Platform("linux", "amd64")
CASES = cases("platforms")


def each(kind: str) -> pytest.MarkDecorator:
    """Parametrize a test with every case of a kind."""
    chosen = [(name, case) for name, case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", [case for _, case in chosen], ids=[name for name, _ in chosen])


def assert_forms(platform: Platform, case: Case) -> None:
    """Assert the normal form and the three specifiers of a platform."""
    normal = platform.normalize(HOST)
    assert normal == platform_of(case["normalized"])
    assert platform.format() == case["format"]
    assert platform.format_all() == case["format_all"]
    assert normal.format_all() == case["format_all_normalized"]


@each("parse")
def test_parse(case: Case) -> None:
    if "error" in case:
        with pytest.raises(InvalidPlatformError):
            Platform.parse(case["in"], HOST)
        return
    platform = Platform.parse(case["in"], HOST)
    assert platform == platform_of(case["parsed"])
    assert_forms(platform, case)


@each("normalize")
def test_normalize(case: Case) -> None:
    assert_forms(platform_of(case["in"]), case)


@each("match")
def test_only(case: Case) -> None:
    assert_agrees(only(platform_of(case["in"]), HOST), case["candidates"], case["only"])


@each("match")
def test_only_strict(case: Case) -> None:
    assert_agrees(only_strict(platform_of(case["in"]), HOST), case["candidates"], case["only_strict"])


def assert_agrees(matcher: PlatformMatcher, fields: list[dict[str, Any]], expected: Case) -> None:
    """Assert which candidates match, their order, and each pair's order."""
    candidates = [platform_of(each) for each in fields]
    assert "".join("01"[matcher.matches(candidate)] for candidate in candidates) == expected["match"]
    assert matcher.sort(candidates) == [candidates[index] for index in expected["order"]]
    if "less" in expected:
        rows = ["".join("01"[matcher.less(one, other)] for other in candidates) for one in candidates]
        assert rows == expected["less"]
