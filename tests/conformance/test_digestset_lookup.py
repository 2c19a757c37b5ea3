"""Truncated ids: every recorded look-up of go-digest's digestset, on every set."""

from __future__ import annotations

import pytest

from imagekeep.digest import LIMIT_PER_RANGE, parse_query, split, validate
from imagekeep.errors import AmbiguousError, ImageNotFoundError, InvalidArgumentError, InvalidDigestError
from tests.conformance.data import Case, cases

CASES = cases("digestset_lookup")
each_set = pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])


def classify(digest: str) -> str:
    """Return the class of the answer that adding or removing a digest gets."""
    try:
        validate(digest)
    except InvalidDigestError as error:
        return error.reason.value
    return "ok"


def look_up(query: str, ids: list[str]) -> tuple[str, str | None]:
    """Return the class and the id, from only what an indexed query of each range would return."""
    parsed = parse_query(query)
    candidates: list[str] = []
    for low, high in parsed.ranges():
        candidates += sorted(digest for digest in ids if low <= digest < high)[:LIMIT_PER_RANGE]
    try:
        return "ok", parsed.choose(candidates)
    except ImageNotFoundError:
        return "not_found", None
    except AmbiguousError:
        return "ambiguous", None


@each_set
def test_adding_and_removing_find_the_same_errors(case: Case) -> None:
    for verb, digest, expected in case["steps"]:
        assert classify(digest) == expected, (verb, digest)


@each_set
def test_a_set_is_ordered_by_encoded_part_then_algorithm(case: Case) -> None:
    kept: set[str] = set()
    for verb, digest, expected in case["steps"]:
        if expected == "ok":
            kept = kept | {digest} if verb == "add" else kept - {digest}
    assert sorted(kept, key=lambda digest: split(digest)[::-1]) == case["all"]


@each_set
def test_every_look_up_gets_the_same_answer(case: Case) -> None:
    for query, expected, digest in case["lookups"]:
        if query:
            assert look_up(query, case["all"]) == (expected, digest), query


@each_set
def test_an_empty_query_is_invalid_whatever_digestset_answers(case: Case) -> None:
    answers = [expected for query, expected, _ in case["lookups"] if not query]
    assert set(answers) <= {"ok", "not_found", "ambiguous"}
    with pytest.raises(InvalidArgumentError):
        parse_query("")
