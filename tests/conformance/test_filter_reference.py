"""The `reference` filter: the answers of docker, where two of its stores differ the stricter one's.

imagekeep answers as docker with graph drivers does: a malformed pattern is an error, never an empty list. nerdctl
and podman match other things (a regular expression, the last component of a path), and are only counted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.globs import ReferenceGlob, spellings
from tests.conformance.data import cases, documents

if TYPE_CHECKING:
    from tests.conformance.data import Case

CASES = [pytest.param(case, id=name) for name, case in cases("filter_reference")]
NAMES = [
    pytest.param(name, facts, id=name)
    for _, document in documents("filter_reference")
    for name, facts in document["references"].items()
]


def answer(pattern: str, name: str) -> bool | None:
    """Return whether a pattern matches, or None if it is malformed."""
    try:
        return ReferenceGlob(pattern).matches_reference(name)
    except InvalidArgumentError:
        return None


@pytest.mark.parametrize("case", CASES)
def test_a_pattern_matches_what_docker_matches(case: Case) -> None:
    expected = case["docker_classic"]
    assert answer(case["pattern"], case["reference"]) == (None if isinstance(expected, dict) else expected)


@pytest.mark.parametrize("case", [case for _, case in cases("filter_reference") if case["docker"] is True])
def test_whatever_the_containerd_store_of_docker_finds_is_found(case: Case) -> None:
    assert answer(case["pattern"], case["reference"])


@pytest.mark.parametrize(("name", "facts"), NAMES)
def test_a_name_is_matched_in_the_spellings_of_docker(name: str, facts: Case) -> None:
    assert list(spellings(name)) == [
        facts[spelling] for spelling in ("familiar", "familiar_name", "with_default_tag", "name")
    ]
