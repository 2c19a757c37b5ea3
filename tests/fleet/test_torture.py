"""The torture test at a modest size, and what it says of two agents and centres that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagekeep.fleet import shipment
from imagekeep.fleet.administration import migrate
from imagekeep.fleet.shipment import Reason
from tests.fleet import torture

if TYPE_CHECKING:
    import pytest

    from imagekeep.database.feed import Page
    from imagekeep.fleet.centre import Position
    from imagekeep.fleet.connection import Connection

TRUSTS_EVERY_CALL = """
CREATE OR REPLACE FUNCTION fleet.lock_cursor(p_epoch integer, p_sequence bigint, p_row bytea) RETURNS fleet.nodes
LANGUAGE plpgsql AS $$
BEGIN
    RETURN fleet.lock_node();
END $$
"""


def test_every_state_range_and_moment_is_right() -> None:
    found = torture.torture(4000, 10, 7)
    assert found.wrong == []
    assert {"killed", "lossy", "clone"} <= found.did.keys()
    assert found.did["moments asked"] > 10


def test_an_agent_that_goes_on_by_sequence_alone_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_sequence(_page: Page, at: Position) -> Reason | None:
        return None if at.epoch else Reason.NEW

    monkeypatch.setattr(shipment, "decide", by_sequence)
    found = torture.torture(4000, 10, 7)
    assert any("the state differs from the store's" in each for each in found.wrong)


def test_a_centre_that_takes_repeated_rows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(connection: Connection) -> None:
        migrate(connection)
        connection.execute(TRUSTS_EVERY_CALL)

    monkeypatch.setattr(torture, "migrate", trusting)
    found = torture.torture(3000, 10, 7)
    assert any("surplus" in each for each in found.wrong)
