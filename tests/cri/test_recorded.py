"""Recorded replies of containerd, compared for the same calls in the same state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.store import Store
from tests.conformance.data import documents
from tests.cri.recorded import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cri.conftest import Serve

RECORDINGS = documents("cri_behaviour_")
OF_THE_SERVER = {"Version", "ImageFsInfo", "PullImage"}
"""Calls whose replies are about the server and not about images; tested elsewhere."""


@pytest.mark.parametrize(("name", "recording"), RECORDINGS, ids=[name for name, _ in RECORDINGS])
def test_every_recorded_call_is_answered_field_by_field(
    name: str, recording: dict[str, Any], store_path: Path, begin: Serve
) -> None:
    with Store.open(store_path) as store:
        replayed = Recording(recording["log"], store)
        client = begin(store_factory=replayed.opening)
        asked = 0
        for number, entry in enumerate(recording["log"]):
            where = f"{name}:{number}: {entry['note']}"
            if "argv" in entry:
                replayed.play(entry["argv"])
            elif "names" in entry:
                targets = {name: record["target"] for name, record in entry["names"].items()}
                assert {n: r.target.digest for n, r in replayed.source.by_name.items()} == targets, where
            elif (
                entry["rpc"] not in OF_THE_SERVER and entry["code"] != "UNIMPLEMENTED"
            ):  # StreamImages in 1.6
                replayed.source.removed.clear()
                answer = client.ask(entry["rpc"], entry["request"])
                assert last_alone(replayed.source.removed), where
                asked += 1
                assert answer.code == entry["code"], (where, answer)
                assert ours(answer.reply, name) == in_order(entry.get("reply")), where
                assert answer.details == entry.get("details", ""), where
    assert asked > 60


def last_alone(removed: list[tuple[str, bool]]) -> bool:
    """Return whether only the last of the removed references was waited for."""
    return [synchronous for _, synchronous in removed] == [False] * (len(removed) - 1) + [True] * bool(
        removed
    )


def ours(reply: Any, name: str) -> Any:
    """Return our reply to compare, without pins, which containerd 1.6 does not report."""
    for one in reply if isinstance(reply, list) else [reply or {}]:
        for image in [*one.get("images", []), one.get("image", {})]:
            if "1.6" in name:
                image.pop("pinned", None)
    return reply


def in_order(reply: Any) -> Any:
    """Return a recorded reply with its images in order of id, because containerd's order is random."""
    for one in reply if isinstance(reply, list) else [reply or {}]:
        if "images" in one:
            one["images"].sort(key=lambda image: image["id"])
    return reply
