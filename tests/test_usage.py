"""Which containers are new, changed or gone, and which image each was made from: decisions without I/O."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imagekeep.times import from_microseconds
from imagekeep.usage import Container, ContainerChanges, ContainerRecord, compare, image_of

APP = "docker.io/library/app:v1"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
CHAIN = "sha256:" + "c" * 64

RECORD = ContainerRecord("one", APP, from_microseconds(1))
KNOWN = Container("one", APP, A, from_microseconds(1), running=False)
NOTHING = ContainerChanges((), (), (), ())


def test_equal_containers_have_no_changes() -> None:
    assert compare([KNOWN], [RECORD]) == NOTHING
    assert not compare([KNOWN], [RECORD])
    assert not compare([], [])


def test_a_container_is_new_or_gone() -> None:
    assert compare([], [RECORD]) == NOTHING._replace(new=(RECORD,))
    assert compare([KNOWN], []) == NOTHING._replace(gone=(KNOWN,))
    assert compare([], [RECORD])


def test_a_change_of_a_container_keeps_its_image() -> None:
    started = replace(KNOWN, running=True)
    assert compare([KNOWN], [replace(RECORD, running=True)]) == NOTHING._replace(changed=(started,))
    renamed = replace(KNOWN, reference="docker.io/library/app:v2")
    assert compare([KNOWN], [replace(RECORD, reference=renamed.reference)]) == NOTHING._replace(
        changed=(renamed,)
    )


def test_a_container_that_was_created_at_another_time_is_another_one() -> None:
    again = replace(RECORD, created_at=from_microseconds(2))
    assert compare([KNOWN], [again]) == NOTHING._replace(new=(again,), gone=(KNOWN,))


def test_a_container_whose_image_is_unknown_is_looked_at_again() -> None:
    unknown = replace(KNOWN, image_id=None)
    assert compare([unknown], [RECORD]) == NOTHING._replace(unresolved=(RECORD,))


@pytest.mark.parametrize(
    ("named", "chain_id", "candidates", "expected"),
    [
        (A, None, {}, A),
        (None, None, {}, None),
        (A, CHAIN, {CHAIN: [A]}, A),
        (A, CHAIN, {CHAIN: [A, B]}, A),
        (A, CHAIN, {CHAIN: [B]}, B),
        (None, CHAIN, {CHAIN: [B]}, B),
        (None, CHAIN, {CHAIN: [A, B]}, None),
        (A, CHAIN, {}, None),
        ("sha256:" + "d" * 64, CHAIN, {CHAIN: [A, B]}, None),
    ],
    ids=[
        "no snapshot: the reference",
        "neither",
        "both agree",
        "two images have these layers: the reference chooses",
        "the reference has moved",
        "the reference is gone",
        "two images have these layers, and no reference",
        "the image is gone, and the reference names another",
        "two images have these layers, and the reference names a third",
    ],
)
def test_the_image_of_a_container(
    named: str | None, chain_id: str | None, candidates: dict[str, list[str]], expected: str | None
) -> None:
    assert image_of(named, chain_id, candidates) == expected
