"""Configs as Go decodes and encodes them."""

from __future__ import annotations

import json

import pytest

from imagekeep.errors import InvalidDocumentError
from imagekeep.oci.config import HISTORY_LIMIT, parse_config

FULL = {
    "created": "2024-02-29T23:59:59Z",
    "author": "someone",
    "architecture": "arm64",
    "os": "windows",
    "os.version": "10.0.20348.1",
    "os.features": ["win32k"],
    "variant": "v8",
    "config": {
        "User": "1000",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["A=b"],
        "Entrypoint": ["/entry"],
        "Cmd": ["run"],
        "Volumes": {"/v": {}},
        "WorkingDir": "/w",
        "Labels": {"a": "b"},
        "StopSignal": "TERM",
        "ArgsEscaped": True,
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    "history": [
        {
            "created": "2024-01-01T00:00:00Z",
            "created_by": "make",
            "author": "a",
            "comment": "c",
            "empty_layer": True,
        }
    ],
}


def test_every_known_field_is_kept_in_go_s_order() -> None:
    shuffled = json.dumps(dict(reversed(FULL.items()))).encode()
    assert json.dumps(parse_config(shuffled, "config")) == json.dumps(FULL)


def test_empty_fields_are_left_out_where_go_leaves_them_out() -> None:
    execution = {"Env": [], "User": "", "Labels": {}, "ArgsEscaped": False}
    empty: dict[str, object] = {
        "created": None,
        "author": "",
        "os.features": [],
        "config": execution,
        "history": [],
    }
    assert parse_config(json.dumps(empty).encode(), "config") == {
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "", "diff_ids": None},
    }


def test_maps_are_sorted_by_key() -> None:
    config = parse_config(b'{"config":{"Labels":{"b":"1","\xc3\xa9":"2","B":"3","a":"4"}}}', "config")
    assert list(config["config"]["Labels"]) == ["B", "a", "b", "\u00e9"]


def test_encoding_again_changes_nothing() -> None:
    encoded = json.dumps(parse_config(json.dumps(FULL).encode(), "config")).encode()
    assert json.dumps(parse_config(encoded, "config")).encode() == encoded


def test_a_bad_time_names_its_field_and_not_its_value() -> None:
    with pytest.raises(
        InvalidDocumentError, match=r"^document sha256:1: history\.1\.created: not a time"
    ) as caught:
        parse_config(b'{"history":[{},{"created":"hunter2"}]}', "sha256:1")
    assert caught.value.reason is InvalidDocumentError.Reason.TIME
    assert "hunter2" not in str(caught.value)


def test_a_history_beyond_all_reason_is_rejected() -> None:
    with pytest.raises(InvalidDocumentError, match="history: more than"):
        parse_config(b'{"history":[' + b"{}," * HISTORY_LIMIT + b"{}]}", "config")
