"""`imagekeep images` with filters, orders, templates and facts."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from imagekeep.questions.filters import KEYS
from imagekeep.store import Store
from tests.database.rows import opened
from tests.images import LayoutWriter, named

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.cli.conftest import Run

OLD = "docker.io/library/shop:old"
NEW = "docker.io/library/shop:new"
ARM = "quay.io/team/arm:1"

ARM64 = {"platform": {"os": "linux", "architecture": "arm64"}}

MADE = {OLD: "2020-01-01T00:00:00.5Z", NEW: "2026-11-20T10:00:00+02:00", ARM: None}
LAYERS = {OLD: (b"base",), NEW: (b"base", b"more" * 500), ARM: (b"arm" * 100,)}


@pytest.fixture
def shop(directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make a store of three images that share a layer, and return their ids by name."""
    layout = LayoutWriter(directory / "shop")
    entries = []
    for name, layers in LAYERS.items():
        image = layout.image(layers=layers, architecture="arm64" if name == ARM else "amd64")
        target = rewritten(layout, image, MADE[name], name)
        entries.append(named(layout.index([target | ARM64]) if name == ARM else target, name))
    layout.write_index(entries)
    monkeypatch.setenv("IMAGEKEEP_STORE", "shop.db")
    with Store.open(
        directory / "shop.db", source="oci:shop", platforms=["linux/amd64", "linux/arm64"]
    ) as store:
        store.sync()
        ids = {image.repo_tags[0]: image.id for image in store.list("*")}
    monkeypatch.setenv("TZ", "UTC")
    return ids


def rewritten(
    layout: LayoutWriter, image: dict[str, object], created: str | None, name: str
) -> dict[str, object]:
    """Give an image's config a time and a label."""
    manifest = json.loads(layout.path(str(image["digest"])).read_text())
    config = json.loads(layout.path(manifest["config"]["digest"]).read_text())
    config |= {"created": created} if created else {}
    config["config"]["Labels"] = {"name": name, "empty": ""}
    manifest["config"] = layout.document(config, manifest["config"]["mediaType"])
    return layout.document(manifest, str(image["mediaType"]))


def listed(run: Run, *options: str) -> list[str]:
    """Return the ids that a list shows."""
    result = run("images", "-q", *options)
    assert result.code == 0, result.err
    return result.lines


def filtered(run: Run, filters: Iterable[str]) -> set[str]:
    return set(listed(run, *(option for text in filters for option in ("-f", text))))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["reference=shop"], [OLD, NEW]),
        (["reference=shop:o*"], [OLD]),
        (["reference=shop:old", "reference=*/library/shop:new"], [OLD, NEW]),
        (["reference=shop:old", "reference=docker.io/library/shop:new"], [OLD, NEW]),
        (["reference!=shop:o*"], [NEW]),
        (["reference!=shop:o*", "reference!=shop:n*"], []),
        (["reference=shop@sha256:*"], [OLD, NEW]),
        (["label=name"], [OLD, NEW]),
        (["label=name=" + OLD], [OLD]),
        (["label!=name=" + OLD], [NEW]),
        (["label=n*e=" + NEW], [NEW]),
        (["label=empty="], [OLD, NEW]),
        (["label=name", "label=name=" + NEW], [NEW]),
        (["label=NAME"], []),
        (["dangling=false"], [OLD, NEW]),
        (["untagged=false"], [OLD, NEW]),
        (["untagged!=false"], []),
        (["before=shop:new"], [OLD]),
        (["since=shop:old"], [NEW]),
        (["after=shop:old"], [NEW]),
        (["before!=shop:old"], [OLD, NEW]),
        (["until=2026-11-20T08:00:00Z"], [OLD]),
        (["until=2026-11-20T08:00:00.000000001Z"], [OLD, NEW]),
        (["created>2020-01-01T00:00:00.5Z"], [NEW]),
        (["created>=2020-01-01T00:00:00.5Z"], [OLD, NEW]),
        (["created<2020-01-01T00:00:00.500000001Z"], [OLD]),
        (["created=2026-11-20"], [NEW]),
        (["created!=2026-11-20"], [OLD]),
        (["first-seen>1h ago"], [OLD, NEW]),
        (["first-seen<1h ago"], []),
        (["first-seen=1h"], [OLD, NEW]),
        (["unused-for<1h"], [OLD, NEW]),
        (["unused-for=1h"], []),
        (["unused-for!=1h"], [OLD, NEW]),
        (["in-use=false"], [OLD, NEW]),
        (["pinned=true"], []),
        (["platform=linux/amd64"], [OLD, NEW]),
        (["platform=amd64"], [OLD, NEW]),
        (["platform!=linux/amd64"], []),
        (["platform=linux/arm64"], [ARM]),
        (["platform=linux/arm64", "reference=shop"], []),
        (["registry=docker.io"], [OLD, NEW]),
        (["registry=quay.io"], []),
        (["repository=shop"], [OLD, NEW]),
        (["repository=docker.io/library/shop"], [OLD, NEW]),
        (["repository=sho"], []),
        (["size>1kB"], [NEW]),
        (["size<=1kB"], [OLD]),
        (["size>0.5KiB", "size<1MB"], [OLD, NEW]),
        (["size!=0"], [OLD, NEW]),
    ],
)
def test_a_filter_keeps_the_images_that_match(
    run: Run, shop: dict[str, str], filters: list[str], expected: list[str]
) -> None:
    assert filtered(run, filters) == {shop[name] for name in expected}


def test_ids_digests_and_layers_may_be_truncated(run: Run, shop: dict[str, str]) -> None:
    image = shop[NEW]
    for text in (image, image[7:], image[:15], image[7:15]):
        assert filtered(run, [f"id={text}"]) == {image}
    assert filtered(run, [f"id!={image}"]) == {shop[OLD]}
    [target] = {row["digest"] for row in rows(run, "--digests", "shop:new")}
    layers = query(
        run,
        "SELECT digest FROM blobs JOIN manifest_layers ON layer_key = blob_key ORDER BY size DESC LIMIT 1",
    )
    shared = query(
        run,
        "SELECT diff_id FROM chains JOIN manifest_layers USING (chain_key) GROUP BY 1 HAVING count(*) > 1",
    )
    targets = query(run, "SELECT target_digest FROM reference_list WHERE reference LIKE '%shop:new'")
    assert filtered(run, [f"digest={targets[0][:20]}"]) == {image}
    assert filtered(run, [f"digest!={targets[0]}"]) == {shop[OLD]}
    assert filtered(run, [f"layer={layers[0]}"]) == {image}
    assert filtered(run, [f"layer={shared[0]}"]) == {image, shop[OLD]}
    assert target in ("", targets[0])


def rows(run: Run, *options: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run("images", "-o", "csv", *options).out)))


def query(run: Run, sql: str) -> list[str]:
    return run("query", "-o", "csv", "-n", sql).lines


def test_use_pins_and_presence_are_filters(run: Run, shop: dict[str, str], directory: Path) -> None:
    with opened(directory / "shop.db") as connection:
        connection.execute(
            "INSERT INTO containers (container_id, reference, image_id, running) VALUES ('c', 'x', ?, 1)",
            (shop[OLD],),
        )
        connection.execute("UPDATE blobs SET present = 1")
        connection.execute(
            "UPDATE blobs SET present = 0 WHERE blob_key = (SELECT layer_key FROM manifest_layers JOIN blobs"
            " ON blob_key = layer_key ORDER BY size DESC LIMIT 1)"
        )
        connection.commit()
    with Store.open(directory / "shop.db") as store:
        store.pin(shop[NEW], NEW)
    used = {
        image["id"]: image["lastUsed"]
        for image in json.loads(run("images", "--wide", "-o", "json").out)["images"]
    }
    assert used[shop[OLD]]
    assert used[shop[NEW]] is None
    assert filtered(run, ["in-use=true"]) == {shop[OLD]}
    assert filtered(run, ["pinned=true"]) == {shop[NEW]}
    assert filtered(run, ["pinned!=true"]) == {shop[OLD]}
    assert filtered(run, ["state=partial"]) == {shop[NEW]}
    assert filtered(run, ["state=complete"]) == {shop[OLD]}
    assert filtered(run, ["state!=complete"]) == {shop[NEW]}
    assert filtered(run, ["state=absent"]) == set()
    assert filtered(run, ["unused-for=0s", "in-use=true"]) == {shop[OLD]}
    assert filtered(run, ["unused-for>0s"]) == {shop[NEW]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("name=x", "unknown filter key 'name': use one of reference, id,"),
        ("label", "write KEY=VALUE or KEY!=VALUE"),
        ("=x", "unknown filter key '\"\"'"),
        ("reference=[", "invalid pattern '['"),
        ("reference!=[", "invalid pattern '['"),
        ("dangling=yes", "'yes' is not true or false"),
        ("dangling=", "is not true or false"),
        ("state=broken", "is not one of complete, partial, absent"),
        ("reference>x", "use = or !=, not >"),
        ("until>x", "use = or !=, not >"),
        ("size=big", "invalid size 'big'"),
        ("size>1EB", "invalid size"),
        ("until=late", "invalid time 'late'"),
        ("unused-for=long", "invalid duration 'long'"),
        ("platform=a/b/c/d", "platform"),
        ("label=\udcff", "not valid UTF-8"),
        ("first-seen>9223372036854775807", "invalid time"),
    ],
)
def test_a_wrong_filter_is_a_usage_error(run: Run, wrong: str, message: str) -> None:
    result = run("images", "-f", wrong)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize("key", ["before", "since"])
def test_an_unknown_image_is_an_error(run: Run, key: str) -> None:
    result = run("images", "-f", f"{key}=nowhere:1")
    assert (result.code, result.out) == (1, "")
    assert "no such image: nowhere:1" in result.err


def test_contradictory_truths_are_an_error(run: Run) -> None:
    assert run("images", "-f", "pinned=true", "-f", "pinned=false").code == 2
    assert run("images", "-f", "pinned=true", "-f", "pinned!=false").code == 0


def test_help_names_every_key(run: Run) -> None:
    shown = run("images", "--help").out
    assert [key for key in KEYS if not re.search(rf"\b{key}\b", shown)] == []


def test_nothing_from_outside_becomes_sql(run: Run, shop: dict[str, str]) -> None:
    for key in ("reference", "id", "label", "registry", "repository"):
        assert filtered(run, [f"{key}=' OR 1=1 --"]) == set()
    assert filtered(run, ["label=' OR '1'='1"]) == set()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sort", "size"], [NEW, OLD]),
        (["--sort", "size", "--reverse"], [OLD, NEW]),
        (["--sort", "created"], [NEW, OLD]),
        (["--sort", "tag"], [NEW, OLD]),
        (["--sort", "tag", "--reverse"], [OLD, NEW]),
        (["--reverse"], [OLD, NEW]),
        (["--sort", "unique-size"], [NEW, OLD]),
        (["--sort", "size", "--limit", "1"], [NEW]),
        (["--limit", "0"], []),
        (["-a", "--limit", "5"], [NEW, OLD]),
    ],
)
def test_a_list_is_sorted_and_limited(
    run: Run, shop: dict[str, str], options: list[str], expected: list[str]
) -> None:
    assert listed(run, *options) == [shop[name] for name in expected]


@pytest.mark.parametrize("key", ["repository", "id", "last-used", "first-seen"])
def test_every_order_lists_every_image(run: Run, shop: dict[str, str], key: str) -> None:
    assert set(listed(run, "--sort", key)) == {shop[OLD], shop[NEW]}
    assert listed(run, "--sort", "id") == sorted([shop[OLD], shop[NEW]])


def test_a_template_has_dockers_placeholders(run: Run, shop: dict[str, str]) -> None:
    template = "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedAt}} {{.Containers}} {{.Platform}} {{.Pinned}}"
    short = shop[NEW].removeprefix("sha256:")[:12]
    assert run("images", "--format", template, "-f", "reference=*:new").out == (
        f"shop:new {short} 2026-11-20 08:00:00 +0000 UTC 0 linux/amd64 false\n"
    )
    assert run("images", "--format", "{{.ID}}", "--no-trunc", "-f", "reference=*:new").out == f"{shop[NEW]}\n"


def test_gos_zero_time_is_shown(
    run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch, shop: dict[str, str]
) -> None:
    layout = LayoutWriter(directory / "zero")
    layout.write_index([named(rewritten(layout, layout.image(), "0001-01-01T00:00:00Z", OLD), OLD)])
    monkeypatch.setenv("IMAGEKEEP_STORE", "zero.db")
    with Store.open(directory / "zero.db", source="oci:zero") as store:
        store.sync()
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        shown = run("images", "--format", "{{.CreatedAt}}").out
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown == "0001-01-01 00:00:00 +0000 UTC\n"
    assert "years ago" in run("images", "--wide", "--store", str(directory / "zero.db")).out


def test_json_as_a_template_is_dockers(run: Run, shop: dict[str, str]) -> None:
    rows = [json.loads(line) for line in run("images", "--format", "json").lines]
    assert [row["Tag"] for row in rows] == ["new", "old"]
    assert set(rows[0]) == {
        "Containers", "CreatedAt", "CreatedSince", "Digest", "ID",
        "Repository", "SharedSize", "Size", "Tag", "UniqueSize",
    }  # fmt: skip
    assert rows[0]["SharedSize"] == "4B"


def test_a_template_of_a_table_is_laid_out_as_dockers(run: Run, shop: dict[str, str]) -> None:
    assert run("images", "--format", r"table {{.Repository}}\t{{.Tag}}\t{{.Pinned}}").out == (
        "REPOSITORY   TAG       PINNED\nshop         new       false\nshop         old       false\n"
    )
    assert run("images", "--format", "table", "-n").lines[0].split()[:2] == ["shop", "new"]


@pytest.mark.parametrize("template", ["{{.Nope}}", "{{json .}}", "{{.ID"])
def test_a_wrong_template_is_a_usage_error(run: Run, template: str) -> None:
    result = run("images", "--format", template)
    assert (result.code, result.out) == (2, "")


def test_a_template_excludes_another_output(run: Run) -> None:
    assert run("images", "--format", "{{.ID}}", "-o", "json").code == 2


def test_wide_adds_facts_and_counts_shared_bytes_apart(run: Run, shop: dict[str, str]) -> None:
    images = {image["id"]: image for image in json.loads(run("images", "--wide", "-o", "json").out)["images"]}
    new, old = images[shop[NEW]], images[shop[OLD]]
    assert (new["created"], new["platform"], new["containers"]) == ("2026-11-20T08:00:00Z", "linux/amd64", 0)
    assert new["sharedSize"] == old["sharedSize"] == len(b"base")
    assert [each["uniqueSize"] + each["sharedSize"] for each in (new, old)] == [
        int(new["size"]),
        int(old["size"]),
    ]
    heading = run("images", "--wide").lines[0]
    assert re.split(r"\s{2,}", heading)[4:] == [
        "CREATED",
        "PLATFORM",
        "STATE",
        "LAST USED",
        "UNIQUE",
        "SHARED",
    ]


def test_a_config_without_a_time_shows_none(run: Run) -> None:
    [first, *_] = json.loads(run("images", "--wide", "-o", "json").out)["images"]
    assert first["created"] is None


def test_filters_apply_to_every_output(run: Run, shop: dict[str, str]) -> None:
    [image] = json.loads(run("images", "-f", "reference=*:new", "-o", "json").out)["images"]
    assert image["id"] == shop[NEW]
    assert set(image) == {"id", "repoTags", "repoDigests", "size", "uid", "username", "spec", "pinned"}
    assert [row["tag"] for row in rows(run, "-f", "reference=*:new")] == ["new"]


def test_another_platform_has_its_own_list(run: Run, shop: dict[str, str]) -> None:
    assert set(listed(run, "--platform", "linux/arm64", "-f", "size>0")) >= {shop[ARM]}
    assert shop[ARM] not in listed(run, "-f", "size>0")
    [image] = json.loads(run("images", "-f", "platform=linux/arm64", "-o", "json").out)["images"]
    assert image["id"] == shop[ARM]


@pytest.mark.parametrize("platforms", [["*"], ["linux/arm64", "linux/amd64"], ["linux/amd64", "*"]])
def test_images_of_several_platforms_are_listed_once(
    run: Run, shop: dict[str, str], platforms: list[str]
) -> None:
    options = [option for platform in platforms for option in ("--platform", platform)]
    assert listed(run, *options) == sorted(shop.values())
    assert listed(run, *options, "--as-of", "now") == sorted(shop.values())
    assert listed(run, *options, "-f", "platform!=linux/amd64") == [shop[ARM]]
    shown = json.loads(run("images", *options, "--wide", "-o", "json").out)["images"]
    assert {image["id"]: image["platform"] for image in shown}[shop[ARM]] == "linux/arm64"


def test_each_of_several_platforms_must_be_kept(run: Run, shop: dict[str, str]) -> None:
    result = run("images", "--platform", "linux/amd64", "--platform", "linux/s390x")
    assert (result.code, "not linux/s390x" in result.err) == (1, True)


def test_a_target_of_several_platforms_has_one_tree(run: Run, directory: Path) -> None:
    layout = LayoutWriter(directory / "both")
    layout.write_index([named(layout.multi_platform({"arm64": (b"arm",)}), "both")])
    assert run("--store", "both.db", "--source", "oci:both", "--platform", "*", "sync").code == 0
    lines = run("--store", "both.db", "--platform", "*", "images", "--tree").lines
    assert [line.split()[1] for line in lines if "linux/" in line] == ["linux/amd64", "linux/arm64"]


def test_only_the_names_that_match_are_shown(run: Run) -> None:
    assert [line.split()[1] for line in run("images", "-n", "-f", "reference=busybox:st*").lines] == [
        "stable"
    ]
    assert run("images", "-f", "reference=busybox:st*", "--format", "{{.Tag}}").out == "stable\n"
    by_digest = [line.split()[1] for line in run("images", "-n", "-f", "reference=busybox@sha256:702*").lines]
    assert by_digest == ["1.36", "stable"]
    [image] = json.loads(run("images", "-f", "reference=busybox:st*", "-o", "json").out)["images"]
    assert len(image["repoTags"]) == 2


def test_a_tree_shows_platforms_and_layers(run: Run, shop: dict[str, str]) -> None:
    lines = run("images", "--tree", "-f", "reference=shop:new").lines
    assert lines[0].startswith(NEW)
    assert re.fullmatch(r"└─ linux/amd64  [0-9a-f]{13}  \S+  complete  selected", lines[1])
    assert re.fullmatch(r"   ├─ [0-9a-f]{13}  4B  shared by 2 images", lines[2])
    assert re.fullmatch(r"   └─ [0-9a-f]{13}  2kB", lines[3])
    [whole, *_] = run("images", "--tree", "--no-trunc", "-f", "reference=shop:new").lines
    assert re.search(r"  sha256:[0-9a-f]{64}$", whole)


@pytest.mark.parametrize("options", [["--format", "{{.ID}}"], ["-o", "json"]])
def test_a_tree_excludes_another_form(run: Run, options: list[str]) -> None:
    assert run("images", "--tree", *options).code == 2


def test_the_past_takes_no_filter(run: Run) -> None:
    assert run("images", "--as-of", "now", "-f", "pinned=true").code == 2
