"""The kubelet's image garbage collection: the answers of its own code.

A plan removes nothing, so it cannot know which removals will fail: what goes is compared where none does.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.kubelet import (
    Collectable,
    Policy,
    bytes_to_free,
    eviction_order,
    spared,
    to_free,
    too_old,
    usage_percent,
)
from tests.conformance.data import cases

if TYPE_CHECKING:
    from tests.conformance.data import Case

SECOND = 1_000_000_000
CASES = [pytest.param(case, id=name) for name, case in cases("gc_order")]
WITHOUT_FAILURE = [
    pytest.param(case, id=name)
    for name, case in cases("gc_order")
    if not any("remove_error" in image for image in case["images"])
]


def nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def policy_of(case: Case) -> Policy:
    fields = case["policy"]
    return Policy(fields["high"], fields["low"], fields["min_age"] * SECOND, fields["max_age"] * SECOND)


def images_of(case: Case) -> list[Collectable]:
    used = {container["image"] for container in case["containers"]}
    used |= {mounted for container in case["containers"] for mounted in container.get("image_volumes", ())}
    now = case["now"]
    return [
        Collectable(
            image["id"],
            image["size"],
            nanoseconds(image["first_detected"] or now),
            nanoseconds(image["last_used"]) if image["last_used"] else None,
            image.get("pinned", False),
            image["id"] in used,
        )
        for image in case["images"]
    ]


def disk_of(case: Case) -> tuple[int, int]:
    """Return the capacity and what is available; the kubelet takes 0 for what it is not told."""
    return case["capacity"] or 0, case["available"] or 0


def is_refused(case: Case) -> bool:
    """Return whether the kubelet refuses the settings or the filesystem."""
    return (case["error"] or "").startswith(("invalid", "LowThreshold"))


@pytest.mark.parametrize("case", [case for case in CASES if not is_refused(case.values[0])])  # type: ignore[arg-type]
def test_candidates_go_in_the_order_of_the_kubelet(case: Case) -> None:
    order = [image.image_id for image in eviction_order(images_of(case))]
    if case["ordered"]:
        assert order == (case["eviction_order"] or [])
    else:
        assert order == sorted(case["eviction_order"])  # ties go by id


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_to_free_are_those_of_the_kubelet(case: Case) -> None:
    if is_refused(case):
        with pytest.raises(InvalidArgumentError):
            bytes_to_free(*disk_of(case), policy_of(case))
    elif case["call"] == "garbage_collect" and not (case["error"] or "").startswith(
        "wanted to free images older"
    ):
        policy = policy_of(case)
        assert bytes_to_free(*disk_of(case), policy) == case["bytes_to_free"]
        if case["usage_percent"] is not None:
            capacity, available = disk_of(case)
            assert usage_percent(capacity, min(available, capacity)) == case["usage_percent"]


@pytest.mark.parametrize("case", WITHOUT_FAILURE)
def test_the_images_of_the_kubelet_go(case: Case) -> None:
    if is_refused(case):
        return
    removed = collect(case)
    assert removed == [(image["id"], image["reason"]) for image in case["removed"]] or not case["ordered"]
    sizes = {image["id"]: image["size"] for image in case["images"]}
    assert sum(sizes[image_id] for image_id, _ in removed) == case["bytes_freed"]


def collect(case: Case) -> list[tuple[str, str]]:
    """Return what goes, and why, in order."""
    now, ordered = nanoseconds(case["now"]), eviction_order(images_of(case))
    if case["call"] == "delete_unused":
        policy = policy_of(case)
        return [(image.image_id, "space") for image in ordered if not spared(image, policy, now)]
    policy = policy_of(case)
    old = too_old(ordered, policy, now, nanoseconds(case["began"]))
    target = bytes_to_free(*disk_of(case), policy)
    left = [image for image in ordered if image not in old]
    chosen = [] if target is None else to_free(left, policy, now, target)
    return [(image.image_id, "age") for image in old] + [(image.image_id, "space") for image in chosen]
