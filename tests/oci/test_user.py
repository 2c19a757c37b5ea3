"""The user of an image, as containerd's getUserFromImage splits it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.oci.user import split_user


@pytest.mark.parametrize(
    ("user", "uid", "name"),
    [
        ("", None, ""),
        ("0", 0, ""),
        ("1000:50", 1000, ""),
        ("web:www", None, "web"),
        (":50", None, ""),
        ("+7", 7, ""),
        ("-7", -7, ""),
        ("007", 7, ""),
        ("0" * 10_000 + "7", 7, ""),
        ("1_000", None, "1_000"),
        (" 7", None, " 7"),
        ("7\n", None, "7\n"),
        ("0x7", None, "0x7"),
        ("\u0667", None, "\u0667"),
        (str(2**63 - 1), 2**63 - 1, ""),
        (str(2**63), None, str(2**63)),
        (str(-(2**63)), -(2**63), ""),
        (str(-(2**63) - 1), None, str(-(2**63) - 1)),
        ("9" * 10_000, None, "9" * 10_000),
    ],
)
def test_user_is_a_64_bit_number_or_a_name(user: str, uid: int | None, name: str) -> None:
    assert split_user(user) == (uid, name)


@given(st.text())
def test_group_changes_nothing(user: str) -> None:
    assert split_user(f"{user}:group") == split_user(user)
