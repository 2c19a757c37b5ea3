"""What images take up, what removing them frees, why one is here, and what a kubelet would remove next."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.database.space import plan_to_prune
from imagekeep.store import Store
from tests.database.rows import opened
from tests.images import LayoutWriter, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

BASE, APP, OTHER, LONE = (
    "docker.io/library/base:1",
    "docker.io/library/app:1",
    "quay.io/team/other:1",
    "quay.io/team/lone:1",
)
LAYERS = {
    BASE: (b"base" * 100,),
    APP: (b"base" * 100, b"app" * 1000),
    OTHER: (b"base" * 100, b"other" * 1000),
    LONE: (b"lone" * 1000,),
}
MINUTE = 60_000_000


@pytest.fixture
def node(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make a store of four images, all present, seen an hour ago; return their ids by name."""
    layout = LayoutWriter(directory / "node")
    images = {name: layout.image(layers=layers) for name, layers in LAYERS.items()}
    layout.write_index([named(image, name) for name, image in images.items()])
    monkeypatch.setenv("IMAGEKEEP_STORE", "node.db")
    with Store.open(directory / "node.db", source="oci:node") as store:
        store.sync()
        ids = {name: store.resolve(name) for name in LAYERS}
    with opened(directory / "node.db") as connection:
        connection.execute("UPDATE blobs SET present = 1")
        connection.execute("UPDATE chains SET unpacked = 1, unpacked_bytes = 10")
        connection.execute("UPDATE image_usage SET first_seen = first_seen - ?", (60 * MINUTE,))
        connection.commit()
    return ids


def use(directory: Path, image_id: str) -> None:
    """Let a container use an image."""
    with opened(directory / "node.db") as connection:
        connection.execute(
            "INSERT INTO containers (container_id, reference, image_id, created_at, running)"
            " VALUES ('web', 'x', ?, 0, 1)",
            (image_id,),
        )
        connection.commit()


def used(directory: Path, image_id: str, minutes_ago: int) -> None:
    """Record when an image was last used."""
    with opened(directory / "node.db") as connection:
        connection.execute(
            "UPDATE image_usage SET last_used = first_seen + ? WHERE image_id = ?",
            ((60 - minutes_ago) * MINUTE, image_id),
        )
        connection.commit()


def pin(directory: Path, image_id: str, name: str) -> None:
    with Store.open(directory / "node.db") as store:
        store.pin(image_id, name)


def blobs(directory: Path) -> dict[str, int]:
    with opened(directory / "node.db") as connection:
        return dict(connection.execute("SELECT digest, size FROM blobs").fetchall())


def answer(run: Run, *arguments: str) -> Any:
    result = run(*arguments, "-o", "json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_removing_an_image_frees_what_only_it_has(run: Run, node: dict[str, str]) -> None:
    app = answer(run, "image", "size", "app:1")
    assert [name.partition("@")[0] for name in app["references"]] == [APP, APP.removesuffix(":1")]
    assert app["kept_content_bytes"] == len(b"base" * 100)
    assert app["freed_content_bytes"] > len(b"app" * 1000)
    assert (app["freed_unpacked_bytes"], app["kept_unpacked_bytes"]) == (10, 10)


def test_removing_all_that_share_a_layer_frees_it(run: Run, node: dict[str, str]) -> None:
    each = [answer(run, "image", "size", name)["freed_content_bytes"] for name in (BASE, APP, OTHER)]
    together = answer(run, "image", "size", BASE, node[APP], "quay.io/team/other:1")
    assert together["freed_content_bytes"] == sum(each) + len(b"base" * 100)
    assert together["kept_content_bytes"] == 0
    assert together["freed_unpacked_bytes"] == 30


def test_a_reference_alone_frees_nothing_of_an_image_with_another(
    run: Run, node: dict[str, str], directory: Path
) -> None:
    layout = json.loads((directory / "node" / "index.json").read_text())
    layout["manifests"].append(named(layout["manifests"][3], "again:1"))
    (directory / "node" / "index.json").write_text(json.dumps(layout))
    with Store.open(directory / "node.db", source="oci:node") as store:
        store.sync()
    assert answer(run, "image", "size", LONE)["freed_content_bytes"] == 0
    assert answer(run, "image", "size", node[LONE])["freed_content_bytes"] > 0


def test_an_unknown_presence_is_null(run: Run) -> None:
    """The source of the shared store has not been asked what it has."""
    with opened_default() as connection:
        connection.execute("UPDATE blobs SET present = NULL")
        connection.commit()
    assert answer(run, "image", "size", "busybox:1.35")["freed_content_bytes"] is None
    assert answer(run, "df")["content_bytes"] is None
    assert "<none>" in run("df").out
    assert "has not said yet what it has" in run("df").err


def test_a_reference_that_could_not_be_read_makes_every_total_unknown(
    run: Run, node: dict[str, str], directory: Path
) -> None:
    with opened(directory / "node.db") as connection:
        connection.execute("INSERT INTO incomplete_refs VALUES ('broken:1', 'absent', 0, 0, 1)")
        connection.commit()
    assert answer(run, "df")["reclaimable_content_bytes"] is None
    assert answer(run, "image", "size", APP)["freed_content_bytes"] is None
    assert "unknown: 1 reference could not be read yet" in run("df").err
    planned = answer(run, "gc", "plan", "--free", "1kB")
    assert (planned["met"], planned["freed_content_bytes"]) == (False, None)


def opened_default() -> Any:
    from pathlib import Path

    return opened(Path("images.db"))


def test_the_size_of_an_unknown_image_is_an_error(run: Run, node: dict[str, str]) -> None:
    result = run("image", "size", APP, "nothing:1")
    assert (result.code, result.out) == (1, "")


def test_df_counts_everything_once(run: Run, node: dict[str, str], directory: Path) -> None:
    assert answer(run, "df") == {
        "images": 4,
        "in_use": 0,
        "pinned": 0,
        "reclaimable": 4,
        "content_bytes": sum(blobs(directory).values()),
        "unpacked_bytes": 40,
        "reclaimable_content_bytes": sum(blobs(directory).values()),
        "reclaimable_unpacked_bytes": 40,
    }


def test_df_reclaims_neither_used_nor_pinned_images(run: Run, node: dict[str, str], directory: Path) -> None:
    use(directory, node[APP])
    pin(directory, node[LONE], LONE)
    freed = answer(run, "image", "size", BASE, OTHER)
    found = answer(run, "df")
    assert (found["in_use"], found["pinned"], found["reclaimable"]) == (1, 1, 2)
    assert found["reclaimable_content_bytes"] == freed["freed_content_bytes"]
    assert found["reclaimable_unpacked_bytes"] == freed["freed_unpacked_bytes"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("registry", {"docker.io": 2, "quay.io": 2}),
        (
            "repository",
            {
                "docker.io/library/base": 1,
                "docker.io/library/app": 1,
                "quay.io/team/other": 1,
                "quay.io/team/lone": 1,
            },
        ),
    ],
)
def test_df_by_group_counts_shared_content_in_each(
    run: Run, node: dict[str, str], directory: Path, by: str, expected: dict[str, int]
) -> None:
    groups = answer(run, "df", "--by", by)["groups"]
    assert {group[by]: group["images"] for group in groups} == expected
    assert sum(group["content_bytes"] for group in groups) > sum(blobs(directory).values())


def test_df_says_that_shared_bytes_count_once(run: Run, node: dict[str, str]) -> None:
    assert "count once" in run("df").err
    assert "count once" in run("image", "size", APP).err


def plan(run: Run, *options: str) -> dict[str, Any]:
    document: dict[str, Any] = answer(run, "gc", "plan", *options)
    return document


def test_a_plan_goes_in_the_order_of_a_kubelet(run: Run, node: dict[str, str], directory: Path) -> None:
    used(directory, node[BASE], 5)
    used(directory, node[APP], 30)
    use(directory, node[OTHER])
    planned = plan(run, "--free", "1TB")
    assert [step["id"] for step in planned["steps"]] == [node[LONE], node[APP], node[BASE]]
    assert (planned["met"], planned["target_bytes"]) == (False, 10**12)


def test_a_container_of_an_unknown_image_keeps_what_its_reference_names(
    run: Run, node: dict[str, str], directory: Path
) -> None:
    with opened(directory / "node.db") as connection:
        connection.execute(
            "INSERT INTO containers (container_id, reference, running) VALUES ('c', ?, 0)", (LONE,)
        )
        connection.commit()
    assert node[LONE] not in [step["id"] for step in plan(run, "--free", "1TB")["steps"]]
    assert run("images", "-q", "-f", "in-use=true").lines == [node[LONE]]


def test_a_step_frees_what_no_later_image_needs(run: Run, node: dict[str, str], directory: Path) -> None:
    for minutes, name in enumerate((BASE, APP, OTHER, LONE)):
        used(directory, node[name], 50 - minutes)
    steps = plan(run, "--free", "1TB")["steps"]
    assert [step["references"][0] for step in steps] == [BASE, APP, OTHER, LONE]
    frees = [step["frees_content_bytes"] for step in steps]
    assert sum(frees) == sum(blobs(directory).values())
    assert [step["frees_unpacked_bytes"] for step in steps] == [0, 10, 20, 10]


def test_a_plan_stops_when_enough_is_freed(run: Run, node: dict[str, str], directory: Path) -> None:
    for minutes, name in enumerate((BASE, APP, OTHER, LONE)):
        used(directory, node[name], 50 - minutes)
    planned = plan(run, "--free", "1kB")
    assert [step["references"][0] for step in planned["steps"]] == [BASE, APP]
    assert planned["met"]
    assert planned["freed_content_bytes"] >= 1000


def test_pinned_and_young_images_stay(run: Run, node: dict[str, str], directory: Path) -> None:
    pin(directory, node[LONE], LONE)
    assert node[LONE] not in [step["id"] for step in plan(run, "--free", "1TB")["steps"]]
    assert plan(run, "--free", "1TB", "--min-age", "2h")["steps"] == []
    assert len(plan(run, "--free", "1TB", "--min-age", "0")["steps"]) == 3


def test_a_plan_of_percentages_needs_the_filesystem(run: Run, node: dict[str, str], directory: Path) -> None:
    result = run("gc", "plan")
    assert result.code == 4
    assert "use --free" in result.err
    with opened(directory / "node.db") as connection:
        connection.execute(
            "INSERT INTO image_filesystem (filesystem_key, mountpoint, at) VALUES (1, ?, 0)",
            (str(directory),),
        )
        connection.commit()
    everything = plan(run, "--high", "0", "--low", "0")
    assert [step["reason"] for step in everything["steps"]] == ["space"] * 4
    assert everything["usage_percent"] > 0
    nothing = plan(run, "--high", "100", "--low", "99", "--max-age", "1m")
    assert [step["reason"] for step in nothing["steps"]] == ["age"] * 4 or nothing["usage_percent"] == 100


@pytest.mark.parametrize(
    "options",
    [
        ["--free", "much"],
        ["--high", "10", "--low", "20"],
        ["--free", "1kB", "--high", "5"],
        ["--min-age", "x"],
    ],
)
def test_a_wrong_plan_is_a_usage_error(run: Run, node: dict[str, str], options: list[str]) -> None:
    result = run("gc", "plan", *options)
    assert (result.code, result.out) == (2, "")


def test_an_explanation_says_what_keeps_an_image(run: Run, node: dict[str, str], directory: Path) -> None:
    use(directory, node[APP])
    pin(directory, node[APP], APP)
    found = answer(run, "image", "explain", "app:1")
    assert found["id"] == node[APP]
    assert found["source"] == f"oci:{directory}/node"
    assert found["state"] == "complete"
    named_since, by_digest = found["references"]
    assert not by_digest["pinned"]
    assert named_since["reference"] == APP
    assert named_since["pinned"]
    assert named_since["pinned_since"] >= named_since["since"]
    assert found["pinned_by"] == [APP]
    assert [container["id"] for container in found["containers"]] == ["web"]
    assert found["kubelet"]["collects"] is False
    assert found["kubelet"]["kept_by"] == ["used by container web", f"pinned by {APP}"]


def test_a_name_is_an_images_since_it_last_came_back(run: Run, node: dict[str, str], directory: Path) -> None:
    rows = [(OTHER, "moved", 2_000_000_000_000_000), (APP, "moved", 2_000_000_001_000_000)]
    with opened(directory / "node.db") as connection:
        for image, event, at in rows:
            connection.execute(
                "INSERT INTO reference_history (reference, image_id, event, pinned, at) VALUES (?, ?, ?, 0, ?)",
                (APP, node[image], event, at),
            )
        connection.commit()
    [named_since, _] = answer(run, "image", "explain", APP)["references"]
    assert named_since["since"] == "2033-05-18T03:33:21.000Z"


def test_each_platform_has_its_own_explanation(run: Run, directory: Path) -> None:
    layout = LayoutWriter(directory / "both")
    layout.write_index([named(layout.multi_platform(), APP), named(layout.image(layers=(b"x",)), OTHER)])
    source = ("--store", "both.db", "--source", "oci:both")
    for platform in ("amd64", "arm64"):
        run(*source, "sync", "--platform", "linux/amd64", "--platform", f"linux/{platform}")
    began = {}
    for platform in ("linux/amd64", "linux/arm64"):
        found = answer(run, *source, "image", "explain", "--platform", platform, APP)
        assert found["platform"] == platform
        began[platform] = [each["since"] for each in found["references"]]
    assert None not in began["linux/amd64"]
    assert began["linux/amd64"] < began["linux/arm64"]
    [of_both, _] = answer(run, *source, "image", "explain", OTHER)["references"]
    assert of_both["since"] == began["linux/amd64"][0]


def test_an_image_stays_while_its_name_is_that_of_a_used_image(run: Run, directory: Path) -> None:
    layout = LayoutWriter(directory / "both")
    layout.write_index([named(layout.multi_platform(), APP), named(layout.image(layers=(b"x",)), OTHER)])
    source = ("--store", "node.db", "--source", "oci:both")
    assert run(*source, "sync", "--platform", "linux/amd64", "--platform", "linux/arm64").code == 0
    plan = (*source, "gc", "plan", "--free", "1GB", "--min-age", "0")
    ids = {
        platform: answer(run, *source, "image", "explain", "--platform", platform, APP)["id"]
        for platform in ("linux/amd64", "linux/arm64")
    }
    assert set(ids.values()) < {step["id"] for step in answer(run, *plan)["steps"]}
    use(directory, ids["linux/amd64"])
    steps = answer(run, *plan)["steps"]
    assert len(steps) == 1
    assert not set(ids.values()) & {step["id"] for step in steps}
    assert answer(run, *source, "df")["reclaimable"] == 1
    with opened(directory / "node.db") as connection:
        connection.execute("UPDATE content_look SET containers_at = 0")
        [step] = plan_to_prune(connection.cursor(), [], time.time_ns())
    assert OTHER in step.names
    kept = answer(run, *source, "image", "explain", ids["linux/arm64"])["kubelet"]
    assert kept["kept_by"] == ["a container uses the image of its name for another platform"]


def test_an_explanation_gives_the_place_in_the_kubelets_order(
    run: Run, node: dict[str, str], directory: Path
) -> None:
    used(directory, node[BASE], 5)
    found = answer(run, "image", "explain", node[BASE][:20])
    assert found["kubelet"] == {"collects": True, "kept_by": [], "position": 4, "candidates": 4}
    assert "would collect it, 4 of 4" in run("image", "explain", BASE).out


def test_a_new_image_is_explained_as_too_young(run: Run) -> None:
    run("--store", "new.db", "--source", "oci:busybox", "sync")
    found = run("--store", "new.db", "image", "explain", "busybox:1.35").out
    assert "would keep it (seen less than two minutes ago" in found
    assert re.search(r"^Name: docker.io/library/busybox:1.35 \(since .* ago\)$", found, re.MULTILINE)


def test_an_unknown_image_has_no_explanation(run: Run) -> None:
    assert run("image", "explain", "nothing:1").code == 1
