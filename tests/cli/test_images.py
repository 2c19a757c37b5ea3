"""`imagekeep images` compared with crictl's output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.command import ROW_FORMATS
from imagekeep.cli.formats import human_size, table
from imagekeep.store import Store
from tests.database.rows import opened
from tests.images import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

OLD = "sha256:e79278307b352b79a5f6912baf16e0e2d1974ff2abafe4df295438755fe77a7f"
NEW = "sha256:584b879064fa05c407514d38cb36892b710d9ac073cac0ac377e046fccde2591"
NEW_TARGET = "sha256:702b8446da0a1b8bd1fd6fe1a96eee2c7bdf65d415075c51c2a2b2dcca2436ca"


def test_table_equals_crictls(run: Run) -> None:
    assert run("images").out == (
        "IMAGE                       TAG                 IMAGE ID            SIZE\n"
        "docker.io/library/busybox   1.35                e79278307b352       619B\n"
        "docker.io/library/busybox   1.36                584b879064fa0       15.8kB\n"
        "docker.io/library/busybox   stable              584b879064fa0       15.8kB\n"
    )


def test_image_ls_is_images(run: Run) -> None:
    assert run("image", "ls") == run("images")


def test_digests_come_before_ids_and_pins_last(run: Run) -> None:
    assert run("images", "--digests", "--pinned", "busybox:stable").lines == [
        "IMAGE                       TAG                 DIGEST              IMAGE ID            "
        "SIZE                PINNED",
        "docker.io/library/busybox   stable              702b8446da0a1       584b879064fa0       "
        "15.8kB              true",
    ]


def test_no_trunc_shows_full_ids_and_digests(run: Run) -> None:
    row = run("images", "--digests", "--no-trunc", "-n", "busybox:1.36").out.split()
    assert row == ["docker.io/library/busybox", "1.36", NEW_TARGET, NEW, "15.8kB"]


@pytest.mark.parametrize("option", ["-n", "--noheading"])
def test_heading_can_be_omitted(run: Run, option: str) -> None:
    assert run("images", option).lines == run("images").lines[1:]


def test_quiet_prints_each_id_once_in_the_order_of_the_table(run: Run) -> None:
    assert run("images", "-q").lines == [OLD, NEW]


def test_empty_store_prints_only_the_heading(run: Run, directory: Path, store_path: Path) -> None:
    assert run("--store", store_path, "images").out.split() == ["IMAGE", "TAG", "IMAGE", "ID", "SIZE"]


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("busybox", ["1.35", "1.36", "stable"]),
        ("docker.io/library/busybox", ["1.35", "1.36", "stable"]),
        ("busybox:1.36", ["1.36"]),
        (f"busybox@{NEW_TARGET}", ["1.36", "stable"]),
        ("busybox:2", []),
        ("box", []),
        ("localhost/busybox", []),
    ],
)
def test_name_selects_rows(run: Run, name: str, tags: list[str]) -> None:
    assert [row.split()[1] for row in run("images", "-n", name).lines] == tags


def test_invalid_reference_is_a_usage_error(run: Run) -> None:
    result = run("images", "Busybox")
    assert (result.code, result.err) == (2, "Error: invalid reference Busybox: remote not lowercase\n")


def add(directory: Path, *references: str, config: bytes = b"{}", size: int = 5) -> str:
    """Add an image with these references to the store, without a source; return its id."""
    from imagekeep.image import Image

    with Store.open(directory / "images.db") as store:
        store.add(Image(digest_of(config), references, "", size, False, config))
    return digest_of(config)


def test_image_without_tag_shows_its_repository(run: Run, directory: Path) -> None:
    add(directory, f"quay.io/a/b@{NEW_TARGET}")
    assert run("images", "-n", "quay.io/a/b").out.split()[:2] == ["quay.io/a/b", "<none>"]


def test_image_without_a_name_shows_none(run: Run, directory: Path) -> None:
    image_id = add(directory, digest_of(b"{}"))
    assert run("images", "-n", "--digests").lines[-1].split() == [
        "<none>", "<none>", "<none>", image_id[7:20], "5B",
    ]  # fmt: skip


def test_tagged_images_come_before_digests_before_ids(run: Run, directory: Path) -> None:
    by_id = add(directory, digest_of(b'{"a":1}'), config=b'{"a":1}')
    by_digest = add(directory, f"a.io/b@{NEW_TARGET}", config=b'{"b":1}')
    assert run("images", "-q").lines == [OLD, NEW, by_digest, by_id]


def test_json_has_every_field_of_crictls(run: Run) -> None:
    assert json.loads(run("images", "-o", "json", "busybox:stable").out) == {
        "images": [
            {
                "id": NEW,
                "repoTags": ["docker.io/library/busybox:1.36", "docker.io/library/busybox:stable"],
                "repoDigests": [f"docker.io/library/busybox@{NEW_TARGET}"],
                "size": "15838",
                "uid": None,
                "username": "",
                "spec": None,
                "pinned": True,
            }
        ]
    }


@pytest.mark.parametrize(
    ("user", "uid", "username"),
    [("0", {"value": "0"}, ""), ("web", None, "web"), ("1000:50", {"value": "1000"}, "")],
)
def test_json_has_the_user_as_number_or_name(
    run: Run, directory: Path, user: str, uid: dict[str, str] | None, username: str
) -> None:
    add(directory, "a.io/user:v1", config=json.dumps({"config": {"User": user}}).encode())
    [image] = json.loads(run("images", "a.io/user", "-o", "json").out)["images"]
    assert (image["uid"], image["username"]) == (uid, username)


def test_negative_size_is_shown_as_the_cris_uint64(run: Run, directory: Path) -> None:
    add(directory, "a.io/negative:v1", size=-1)
    [image] = json.loads(run("images", "a.io/negative", "-o", "json").out)["images"]
    assert image["size"] == str(2**64 - 1)


def test_yaml_equals_json(run: Run) -> None:
    assert run("images", "-o", "yaml", "busybox:1.35").out == (
        "images:\n"
        f'  - id: "{OLD}"\n'
        "    repoTags:\n"
        '      - "docker.io/library/busybox:1.35"\n'
        "    repoDigests:\n"
        '      - "docker.io/library/busybox@'
        'sha256:d456bdfd74a98d92f4dfc90d2b55a8a87a7f9aec76ee8d2c6ecbafd15bd88218"\n'
        '    size: "619"\n'
        "    uid: null\n"
        '    username: ""\n'
        "    spec: null\n"
        "    pinned: false\n"
    )


def test_no_environment_value_is_printed(run: Run) -> None:
    assert "hunter2" not in "".join(run("images", "-o", output).out for output in ROW_FORMATS)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1084802, "1.08MB"),
        (999_999, "1e+03kB"),
        (12_345_678_901, "12.3GB"),
        (2**63 - 1, "9.22EB"),
        (-1, "18.4EB"),
    ],
)
def test_sizes_are_formatted_like_go_units(size: int, text: str) -> None:
    assert human_size(size) == text


def test_table_escapes_unprintable_characters() -> None:
    assert "".join(table([["a\x1b[31m", "b\u202e\x9b"]])) == f"{'a' + chr(92) + 'x1b[31m':20}b\\u202e\\x9b\n"


def test_namespace_other_than_the_stores_is_an_error(run: Run, directory: Path) -> None:
    with opened(directory / "images.db") as connection:
        connection.execute("UPDATE identity SET source = 'containerd:/run/c.sock', namespace = 'k8s.io'")
    assert run("--namespace", "k8s.io", "images", "-q").code == 0
    for command in (["images"], ["image", "exists", "busybox:1.36"], ["image", "inspect", "busybox:1.36"]):
        result = run("--namespace", "default", *command)
        assert (result.code, result.out) == (4, "")
        assert "follows namespace 'k8s.io', not 'default' (omit --namespace" in result.err
    assert run("--namespace", "default", "query", "SELECT * FROM image_list").code == 4
    assert run("--namespace", "k8s.io", "query", "SELECT * FROM image_list").code == 0
    assert "containerd:/run/c.sock (namespace k8s.io)" in run("db", "info").out
