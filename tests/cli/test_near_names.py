"""Suggestions for names that the store does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.cli.near_names import edit_distance, nearest

if TYPE_CHECKING:
    from tests.cli.conftest import Run

STORED = [
    "docker.io/library/busybox:1.36",
    "docker.io/library/nginx:1.27-alpine",
    "docker.io/grafana/loki:3.0",
    "registry.example:5000/team/application:v1",
    "quay.io/prometheus/node-exporter@sha256:" + "ab" * 32,
    "registry.k8s.io/pause:3.10",
    "registry.k8s.io/kube-apiserver:v1.31.0",
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("busibox:1.36", "busybox:1.36"),
        ("busybox:1.37", "busybox:1.36"),
        ("busybxo:1.36", "busybox:1.36"),
        ("BusyBox:1.36", "busybox:1.36"),
        ("busibox", "busybox:1.36"),
        ("docker.io/library/busibox:1.36", "busybox:1.36"),
        ("ngixn", "nginx:1.27-alpine"),
        ("nginx:1.27-alpin", "nginx:1.27-alpine"),
        ("grafana/lokki:3.0", "grafana/loki:3.0"),
        ("loki:3.0", "grafana/loki:3.0"),
        ("application:v1", "registry.example:5000/team/application:v1"),
        ("registri.example:5000/team/application:v1", "registry.example:5000/team/application:v1"),
        ("registry.example:500/team/application", "registry.example:5000/team/application:v1"),
        ("node-exporter", "quay.io/prometheus/node-exporter@sha256:" + "ab" * 32),
        ("registry.k8s.io/puase:3.10", "registry.k8s.io/pause:3.10"),
        ("kube-apisever:v1.31.0", "registry.k8s.io/kube-apiserver:v1.31.0"),
        ("postgres", None),
        ("sha256:" + "cd" * 32, None),
        ("x", None),
        ("", None),
        ("a" * 10_000, None),
    ],
)
def test_the_nearest_reference_is_suggested(name: str, found: str | None) -> None:
    assert nearest(name, STORED) == found


def reference_distance(left: str, right: str) -> int:
    """Return the distance by its definition (optimal string alignment)."""
    if not left or not right:
        return len(left) + len(right)
    best = min(
        reference_distance(left[1:], right) + 1,
        reference_distance(left, right[1:]) + 1,
        reference_distance(left[1:], right[1:]) + (left[0] != right[0]),
    )
    if left[:2] == right[1::-1] and len(left) > 1 and len(right) > 1:
        best = min(best, reference_distance(left[2:], right[2:]) + 1)
    return best


WORDS = st.text("abc", max_size=5)


@given(WORDS, WORDS, st.integers(0, 6))
def test_the_edit_distance_is_the_definitions(left: str, right: str, limit: int) -> None:
    distance = reference_distance(left, right)
    assert edit_distance(left, right, limit) == (distance if distance <= limit else None)


@pytest.mark.parametrize(
    "arguments", [("image", "inspect", "busibox:1.36"), ("image", "history", "busibox:1.36")]
)
def test_a_command_suggests_the_nearest_reference(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.err) == (
        1,
        "Error: no such image: busibox:1.36 (did you mean 'busybox:1.36'?)\n",
    )


def test_a_command_suggests_nothing_for_another_word(run: Run) -> None:
    assert run("image", "inspect", "postgres").err == "Error: no such image: postgres\n"


def test_sync_suggests_the_nearest_reference(run: Run) -> None:
    result = run("--source", "oci:busybox", "sync", "busybox:1.3")
    assert result.code == 1
    assert "(did you mean 'busybox:1.3" in result.err
