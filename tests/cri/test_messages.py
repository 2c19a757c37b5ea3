"""CRI messages built from the store's images."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagekeep.cri.messages import User, image_message, info_document, reported_usage, usage_reply, user_of
from imagekeep.cri.protocol import IMAGE_FS_INFO
from imagekeep.errors import InvalidDocumentError
from imagekeep.image import Image, ImageSummary
from imagekeep.watcher_status import FilesystemUsage
from tests.cri.client import plain

ID = "sha256:" + "1" * 64


def summary(**fields: Any) -> ImageSummary:
    known: dict[str, Any] = {"id": ID, "references": (), "chain_id": "", "size": 1, "pinned": False}
    return ImageSummary(**{**known, **fields})


def image(config: Any) -> Image:
    return Image(ID, (ID,), "sha256:" + "2" * 64, 1, False, json.dumps(config).encode())


def test_a_negative_size_is_converted_as_in_go() -> None:
    assert image_message(summary(size=-1), User()).size == 2**64 - 1


def test_user_0_is_set_and_no_user_is_not() -> None:
    assert plain(image_message(summary(), User(0, "")))["uid"] == {}
    assert "uid" not in plain(image_message(summary(), User()))


def test_names_become_tags_or_digests_and_ids_neither() -> None:
    digest = "example.test/a@sha256:" + "3" * 64
    told = plain(image_message(summary(references=("example.test/a:v1", digest, ID)), User()))
    assert (told["repo_tags"], told["repo_digests"]) == (["example.test/a:v1"], [digest])


@pytest.mark.parametrize(
    ("config", "user"),
    [
        ({"config": {"User": "65534:65534"}}, User(65534)),
        ({"config": {"User": "web:web"}}, User(None, "web")),
        ({"CONFIG": {"user": "7"}}, User(7)),
        ({"config": {}}, User()),
        ({"config": None}, User()),
        ({}, User()),
        ({"config": {"User": "7", "Env": 7}}, User(7)),
    ],
)
def test_a_user_is_parsed_as_in_go_and_nothing_else_is_decoded(config: Any, user: User) -> None:
    assert user_of(json.dumps(config).encode(), ID) == user


def test_an_invalid_config_has_no_user() -> None:
    with pytest.raises(InvalidDocumentError):
        user_of(b"{", ID)


def test_the_verbose_document_is_escaped_as_in_go() -> None:
    odd = "<&>\u2028\u2029é\u0001\x7f"
    document = info_document(image({"config": {"Env": [odd]}, "rootfs": {"type": "layers"}}))
    assert "\\u003c\\u0026\\u003e\\u2028\\u2029é\\u0001\x7f" in document
    assert json.loads(document)["imageSpec"]["config"]["Env"] == [odd]


def test_unknown_usage_is_zero() -> None:
    (usage,) = plain(usage_reply(FilesystemUsage("/images", None, None, 7)))["image_filesystems"]
    assert usage == {
        "timestamp": "7000",
        "fs_id": {"mountpoint": "/images"},
        "used_bytes": {},
        "inodes_used": {},
    }


@pytest.mark.parametrize(("used", "at"), [(2**64 - 1, 1), (1, -1)])
def test_usage_that_does_not_fit_is_not_recorded(used: int, at: int) -> None:
    usage = {"timestamp": at, "fs_id": {"mountpoint": "/"}, "used_bytes": {"value": used}}
    assert reported_usage(IMAGE_FS_INFO.response(image_filesystems=[usage])) is None


def test_usage_is_recorded_as_it_was_reported() -> None:
    usage = FilesystemUsage("/images", 5, 6, 7)
    assert reported_usage(usage_reply(usage)) == usage
    assert reported_usage(IMAGE_FS_INFO.response()) is None
