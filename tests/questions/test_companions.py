"""Which references go with a tag."""

from __future__ import annotations

import pytest

from imagekeep.questions.companions import NamedTarget, with_companions

ID, OTHER_ID = "sha256:" + "1" * 64, "sha256:" + "2" * 64
TARGET = "sha256:" + "a" * 64
APP, APP_LATEST, COPY = "docker.io/library/app:1", "docker.io/library/app:latest", "quay.io/team/copy:1"
APP_DIGEST, COPY_DIGEST = f"docker.io/library/app@{TARGET}", f"quay.io/team/copy@{TARGET}"


def removed(chosen: list[str], *names: str) -> set[str]:
    return set(with_companions(chosen, [NamedTarget(name, ID, TARGET) for name in names]))


@pytest.mark.parametrize(
    ("chosen", "names", "expected"),
    [
        ([APP], [APP, APP_DIGEST, ID], {APP, APP_DIGEST, ID}),
        ([APP], [APP, APP_LATEST, APP_DIGEST, ID], {APP}),
        ([APP, APP_LATEST], [APP, APP_LATEST, APP_DIGEST, ID], {APP, APP_LATEST, APP_DIGEST, ID}),
        ([APP], [APP, APP_DIGEST, COPY, COPY_DIGEST, ID], {APP, APP_DIGEST}),
        ([APP, COPY], [APP, APP_DIGEST, COPY, COPY_DIGEST, ID], {APP, APP_DIGEST, COPY, COPY_DIGEST, ID}),
        ([APP_DIGEST], [APP, APP_DIGEST, ID], {APP_DIGEST}),
        ([APP_DIGEST], [APP_DIGEST, ID], {APP_DIGEST, ID}),
        ([APP], [APP, "Not A Reference", ID], {APP}),
    ],
)
def test_a_tag_takes_what_only_it_needs(chosen: list[str], names: list[str], expected: set[str]) -> None:
    assert removed(chosen, *names) == expected


def test_the_digest_of_another_target_stays() -> None:
    moved = NamedTarget(APP_DIGEST, OTHER_ID, TARGET)
    assert with_companions([APP], [NamedTarget(APP, ID, "sha256:" + "b" * 64), moved]) == [APP]
