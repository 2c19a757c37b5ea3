"""Patterns: what Go's path.Match answers beyond the recorded cases, and that matching stays fast."""

from __future__ import annotations

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.globs import PATTERN_LENGTH_MAX, Glob, ReferenceGlob, spellings

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*b", "a/b", False),
        ("a?b", "a/b", False),
        ("a[/]b", "a/b", True),
        ("[^a]", "/", True),
        ("*[^a]*b", "x/b", False),  # Go does not try a star again, though the class could match the slash
        ("a*", "a", True),
        ("**", "ab", True),
        ("*/*", "a/b", True),
        ("*a*a", "aXa", True),
        ("[z-a]", "b", False),
        ("[^z-a]", "b", True),
        ("[z-ab]", "b", True),
        ("[\\]a]", "]", True),
        ("[[]", "[", True),
        ("\\*", "*", True),
        ("\\*", "x", False),
        ("?", "\n", True),
        ("é", "é", True),
        ("?", "é", True),
    ],
)
def test_a_pattern_matches_as_in_go(pattern: str, text: str, expected: bool) -> None:
    assert Glob(pattern).matches(text) is expected


@pytest.mark.parametrize(
    "pattern", ["[", "[]", "[]a]", "[a", "[a-", "[a-]", "[-a]", "[^]", "\\", "a[\\", "[a-b", "x*["]
)
def test_a_malformed_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid pattern"):
        Glob(pattern)


def test_a_long_pattern_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="longer than"):
        Glob("a" * (PATTERN_LENGTH_MAX + 1))


def test_many_stars_do_not_multiply_the_work() -> None:
    """Each star is tried once; with backtracking this would not end."""
    assert not Glob("*a" * 1000 + "b").matches("a" * 30_000)


def test_a_tag_is_found_by_the_digest_of_its_target() -> None:
    pattern = ReferenceGlob("alpine@sha256:abab*")
    assert pattern.matches_reference("docker.io/library/alpine:3.18", DIGEST)
    assert not pattern.matches_reference("docker.io/library/alpine:3.18")
    assert ReferenceGlob("docker.io/library/alpine@sha256:*").matches_reference(
        "docker.io/library/alpine:3.18", DIGEST
    )


def test_a_name_that_is_not_a_reference_is_found_as_written() -> None:
    assert list(spellings("Not A Reference")) == ["Not A Reference"]


def test_a_bare_image_id_has_no_spelling() -> None:
    assert list(spellings(DIGEST)) == []
