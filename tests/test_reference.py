"""References: parsing, valid names, and order."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.errors import InvalidReferenceError
from imagekeep.reference import (
    GRAMMAR,
    NAME_BYTES_MAX,
    PATH_LENGTH_MAX,
    Reference,
    check_name,
    parse_any,
    parse_docker_ref,
    parse_normalized,
    repo_digests,
    repo_tags,
    sort_key,
    sort_references,
)

DIGEST = "sha256:2971c8c429507199bc5fc445fda7589b98365731e5e63a15f9cc12e197cedd4f"

parts = st.sampled_from(
    [
        "a",
        "B",
        "0",
        ".",
        "_",
        "__",
        "-",
        "/",
        ":",
        "@",
        "localhost",
        "docker.io",
        "library",
        "[::1]",
        "é",
        DIGEST,
    ]
)
texts = st.lists(parts, max_size=9).map("".join)


def reason_of(text: str) -> str:
    """Return the reason why a text is not a reference."""
    with pytest.raises(InvalidReferenceError) as raised:
        parse_normalized(text)
    return raised.value.reason


def repeats(tree: Any) -> list[tuple[str, int]]:
    """Return the kind and the upper bound of every repetition in a parsed regular expression."""
    found: list[tuple[str, int]] = []
    for item in tree:
        if isinstance(item, tuple | list) or hasattr(item, "data"):
            if isinstance(item, tuple) and "REPEAT" in str(item[0]):
                found.append((str(item[0]), int(item[1][1])))
            found += repeats(item)
    return found


def test_the_grammar_never_backtracks() -> None:
    found = repeats(importlib.import_module("re._parser").parse(GRAMMAR, re.VERBOSE))
    assert len(found) > 20
    assert {kind for kind, _ in found} == {"POSSESSIVE_REPEAT"}


@pytest.mark.parametrize("unit", ["a", "a-", "-", "a.", "a_", "a/", "A", "[", ":0", "@a", "a:", "é"])
def test_the_longest_hostile_names_are_refused_or_parsed_without_backtracking(unit: str) -> None:
    name = (unit * NAME_BYTES_MAX).encode()[: NAME_BYTES_MAX - 2].decode(errors="ignore")
    assert sort_key(name + "!") == (5, name + "!")
    assert sort_key(f"localhost/{name}"[:NAME_BYTES_MAX])[0] == 5


@given(texts)
def test_the_canonical_form_is_parsed_to_itself(text: str) -> None:
    try:
        reference = parse_normalized(text)
    except InvalidReferenceError:
        return
    assert parse_normalized(str(reference)) == reference


@given(texts)
def test_a_docker_reference_has_either_a_tag_or_a_digest(text: str) -> None:
    try:
        reference = parse_docker_ref(text)
    except InvalidReferenceError:
        return
    assert bool(reference.tag) != bool(reference.digest)


@given(st.text())
def test_any_text_has_a_sort_key_and_only_references_are_rewritten(text: str) -> None:
    rank, written = sort_key(text)
    assert rank in range(5) or (rank, written) == (5, text)


@given(st.lists(texts | st.text(max_size=5), max_size=8).flatmap(lambda names: st.permutations(names)))
def test_the_order_does_not_depend_on_the_input_order(names: list[str]) -> None:
    assert sort_references(names) == sort_references(sorted(names))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "name_empty"),
        ("é" * (NAME_BYTES_MAX // 2 + 1), "name_longer_than_32768_bytes"),
        ("busybox:\udcff", "name_not_utf8"),
    ],
)
def test_an_impossible_name_has_a_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidReferenceError) as raised:
        check_name(name)
    assert raised.value.reason == reason


@pytest.mark.parametrize("name", ["é" * (NAME_BYTES_MAX // 2), "No Reference\n", "\0", "a" * NAME_BYTES_MAX])
def test_a_name_need_not_be_a_reference(name: str) -> None:
    check_name(name)


def test_a_name_that_no_source_can_hold_is_refused_before_it_is_parsed() -> None:
    assert reason_of("a" * (NAME_BYTES_MAX + 1)) == "name_longer_than_32768_bytes"
    assert sort_key("\ud800") == (5, "\ud800")


@pytest.mark.parametrize(
    "text", ["busybox\n", "busybox:1\n", f"busybox@{DIGEST}\n", "\nbusybox", f"{DIGEST}\n"]
)
def test_a_newline_never_matches(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        parse_any(text)


def test_a_path_may_have_255_characters_with_the_added_prefix() -> None:
    longest = "a" * (PATH_LENGTH_MAX - len("library/"))
    assert parse_normalized(longest).path == f"library/{longest}"
    assert reason_of(longest + "a") == "name_too_long"


def test_a_component_that_is_not_a_domain_belongs_to_the_path() -> None:
    assert parse_normalized("a__b.c/d") == Reference(path="a__b.c/d")


@pytest.mark.parametrize("text", ["İ/foo", "\N{KELVIN SIGN}/foo"])
def test_a_domain_that_lowers_to_ascii_is_reported_as_uppercase(text: str) -> None:
    assert reason_of(text) == "name_contains_uppercase"


def test_a_bare_name_gets_the_tag_latest() -> None:
    assert str(parse_docker_ref("busybox")) == "docker.io/library/busybox:latest"


def test_a_tag_with_a_digest_is_dropped() -> None:
    assert str(parse_docker_ref(f"busybox:1@{DIGEST}")) == f"docker.io/library/busybox@{DIGEST}"


def test_only_parse_any_accepts_64_hex_as_a_digest() -> None:
    encoded = DIGEST.removeprefix("sha256:")
    assert parse_any(encoded) == parse_any(DIGEST) == Reference(digest=DIGEST)
    assert reason_of(encoded) == "identifier_not_allowed"


def test_familiar_names_omit_docker_hubs_defaults() -> None:
    names = ["docker.io/library/a:1", "docker.io/a/b", "docker.io/library/a/b", "quay.io/library/a"]
    assert [parse_normalized(name).familiar for name in names] == [
        "a:1",
        "a/b",
        "library/a/b",
        "quay.io/library/a",
    ]


def test_names_are_sorted_by_rank_then_canonical_form_and_kept_as_written() -> None:
    given_order = [
        "not a name",
        DIGEST,
        "b",
        "docker.io/library/b",
        f"z@{DIGEST}",
        "z:1",
        "a:1",
        f"z:1@{DIGEST}",
    ]
    assert sort_references(given_order) == [
        f"z:1@{DIGEST}",
        "a:1",
        "z:1",
        f"z@{DIGEST}",
        "b",
        "docker.io/library/b",
        DIGEST,
        "not a name",
    ]


def test_two_spellings_of_one_reference_are_ordered_by_the_spelling() -> None:
    assert sort_references(["docker.io/library/b", "b"]) == ["b", "docker.io/library/b"]


def test_repo_tags_and_digests_are_canonical_and_omit_the_rest() -> None:
    names = ("a:1", f"a@{DIGEST}", f"a:2@{DIGEST}", "a", DIGEST, "not a name")
    assert repo_tags(names) == ("docker.io/library/a:1",)
    assert repo_digests(names) == (f"docker.io/library/a@{DIGEST}", f"docker.io/library/a:2@{DIGEST}")
