"""References: the answers of distribution/reference's three parsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidReferenceError
from imagekeep.reference import Reference, parse_any, parse_docker_ref, parse_normalized
from tests.conformance.data import Case, cases

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = cases("reference_parse")
each_text = pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])


def answer(parse: Callable[[str], Reference], text: str) -> tuple[Reference | None, str | None]:
    """Return what a parser returns for a text, and the class of its error."""
    try:
        return parse(text), None
    except InvalidReferenceError as error:
        return None, error.reason


def error_class(case: Case, field: str) -> str | None:
    """Return the class of Go's error, or None."""
    error: dict[str, str] = case.get(field, {})
    return error.get("class")


def kind(reference: Reference) -> str:
    """Return the interfaces that Go's type of this reference has, as the data joins them."""
    parts = {"named": reference.name, "tagged": reference.tag, "digested": reference.digest}
    return "+".join(word for word, part in parts.items() if part)


@each_text
def test_parse_docker_ref(case: Case) -> None:
    reference, reason = answer(parse_docker_ref, case["in"])
    assert reason == error_class(case, "docker_ref_error"), case["in"]
    assert reference is None or str(reference) == case["docker_ref"], case["in"]


@each_text
def test_parse_normalized(case: Case) -> None:
    reference, reason = answer(parse_normalized, case["in"])
    assert reason == error_class(case, "normalized_error"), case["in"]
    if reference:
        found = {
            "string": str(reference),
            "familiar": reference.familiar,
            "familiar_name": reference.familiar_name,
            "name": reference.name,
            "domain": reference.domain,
            "path": reference.path,
            "tag": reference.tag,
            "digest": reference.digest,
        }
        assert found == case["normalized"]


@each_text
def test_parse_any(case: Case) -> None:
    reference, reason = answer(parse_any, case["in"])
    assert reason == error_class(case, "any_error"), case["in"]
    if reference:
        assert (str(reference), kind(reference)) == (case["any"], case["any_kind"])
