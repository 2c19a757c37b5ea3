"""Random changes of many nodes, shipped through every fault there is, and compared with a model.

    python -m tests.fleet.torture --changes 1000000 --nodes 100

Agents and PostgreSQL are killed (SIGKILL), answers are lost, calls are repeated and reordered, stores are
restored, copied back, re-installed and cloned, and clocks are a year off. At the end, and at each step for the
node concerned, the centre has the state of the store, exactly the ranges of a model, and says the right thing about
every moment at which the state was noted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psycopg

from imagekeep import Reader, Store, internals
from imagekeep.database.backup import copy_store
from imagekeep.database.restore import restore_store
from imagekeep.errors import (
    CentreRefusedError,
    CentreUnavailableError,
    CursorMovedError,
    ImagekeepError,
)
from imagekeep.fleet import centre as centre_module
from imagekeep.fleet import shipment
from imagekeep.fleet.administration import enroll, migrate
from imagekeep.fleet.connection import connect, place_of
from imagekeep.fleet.shipment import ship
from imagekeep.fleet.wire import wire_name
from imagekeep.times import from_microseconds
from tests.fleet.model import Closed, Model, Value, rows_between, state_after
from tests.fleet.server import Server, running
from tests.model import real_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagekeep.fleet.connection import Connection

IMAGES = [real_image(number) for number in range(60)]
NAMES = [f"docker.io/library/app{number}:1" for number in range(24)] + ["a\0b", "x" * 5000]
YEAR = 365 * 86_400 * 1_000_000

CLOSED = """
SELECT m.name, i.id, i.size, t.digest, r.pinned, r.epoch, r.sequence, r.to_sequence, r.valid_from, r.valid_to
FROM fleet.past_references AS r JOIN fleet.pointings AS p ON p.pointing_key = r.pointing_key
JOIN fleet.names AS m ON m.name_key = p.name_key JOIN fleet.images AS i ON i.image_key = p.image_key
LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
WHERE r.node_key = (SELECT node_key FROM fleet.nodes WHERE name = %s)
"""
OPEN = """
SELECT m.name, i.id, i.size, t.digest, r.pinned, r.epoch, r.sequence, r.valid_from
FROM fleet.current_references AS r JOIN fleet.pointings AS p ON p.pointing_key = r.pointing_key
JOIN fleet.names AS m ON m.name_key = p.name_key JOIN fleet.images AS i ON i.image_key = p.image_key
LEFT JOIN fleet.targets AS t ON t.target_key = p.target_key
WHERE r.node_key = (SELECT node_key FROM fleet.nodes WHERE name = %s)
"""
NODE = "SELECT epoch, sequence FROM fleet.nodes WHERE name = %s"
EPOCHS = """
SELECT e.epoch, e.from_sequence, e.began_at FROM fleet.epochs AS e JOIN fleet.nodes AS n USING (node_key)
WHERE n.name = %s AND e.epoch > %s ORDER BY e.epoch
"""
ACTIVE = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
AS_OF = "SELECT reference, image_id, size, target_digest, pinned FROM fleet.node_references_at(%s, %s)"


class LossyCentre(centre_module.Centre):
    """A centre that now and then loses an answer, or gets a call again, or an old one."""

    draw: random.Random
    sent: deque[tuple[str, tuple[Any, ...]]]

    def _call(self, statement: str, *arguments: Any) -> tuple[Any, ...]:
        answer = super()._call(statement, *arguments)
        if "hello" in statement or "facts" in statement:
            return answer
        chance = self.draw.random()
        if chance < 0.1:
            raise CentreUnavailableError("the answer is lost")
        if chance < 0.3:
            self._repeat(statement, arguments)
        elif chance < 0.4 and self.sent:
            self._repeat(*self.draw.choice(self.sent))
        self.sent.append((statement, arguments))
        return answer

    def _repeat(self, statement: str, arguments: tuple[Any, ...]) -> None:
        try:
            super()._call(statement, *arguments)
        except (CursorMovedError, CentreRefusedError):  # a node is new only once
            return
        if "hash" not in statement:
            raise RepeatTakenError


class RepeatTakenError(AssertionError):
    """Raised when the centre takes a call a second time."""


@dataclass
class Moment:
    """A time at which the state of a store was noted, to be asked of the centre once it has that row."""

    at: datetime
    sequence: int
    state: dict[str, Value]


@dataclass
class Node:
    """One name, with the store that ships under it, and sometimes a second one."""

    name: str
    path: Path
    parameters: dict[str, str]
    clock: int
    model: Model = field(default_factory=Model)
    noted: list[Moment] = field(default_factory=list)
    due: list[Moment] = field(default_factory=list)
    sent: deque[tuple[str, tuple[Any, ...]]] = field(default_factory=lambda: deque(maxlen=50))
    dated: bool = True
    covered_from: datetime | None = None


class Torture:
    """A server, its nodes and the faults."""

    commits = 12

    def __init__(self, server: Server, directory: Path, nodes: int, seed: int) -> None:
        self.server, self.directory, self.random = server, directory, random.Random(seed)
        self.did: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.owner = self._connect()
        migrate(self.owner)
        self.owner.execute("UPDATE fleet.settings SET value = 1000000000 WHERE name = 'epochs_per_hour'")
        self.nodes = [self._enroll(number) for number in range(nodes)]

    def run(self, changes: int) -> None:
        """Make this many changes; compare everything at the end."""
        while self.did["changes"] < changes:
            node = self.random.choice(self.nodes)
            with shifted(node.clock):
                self._change(node)
                if self.random.random() < 0.06:
                    self._replace(node)
                if self.random.random() < 0.7:
                    self._ship(node)
        for node in self.nodes:
            with shifted(node.clock):
                self._ship_well(node)
                self._compare_ranges(node)

    def _change(self, node: Node) -> None:
        with Store.open(node.path) as store:
            for _ in range(self.random.randrange(1, self.commits)):
                names = self.random.sample(NAMES, self.random.randrange(1, len(NAMES)))
                changed = internals.apply_all(store, {name: self._image() for name in names})
                self.did["changes"] += sum(each.changed for each in changed.values())
            sequence = internals.feed_end(store)[0].sequence
        node.noted.append(self._note(node, sequence))

    def _image(self) -> Any:
        image = self.random.choice(IMAGES)
        return None if self.random.random() < 0.2 else replace(image, pinned=self.random.random() < 0.2)

    def _note(self, node: Node, sequence: int) -> Moment:
        now = datetime.now(UTC)
        while datetime.now(UTC) <= now:  # the next change is later
            pass
        return Moment(now, sequence, {})

    def _replace(self, node: Node) -> None:
        """Put another store in the place of a node's: an older one, a copy of one, or a new one."""
        how = self.random.choice(("restore", "copy", "reinstall", "keep", "keep"))
        kept = node.path.with_suffix(".kept")
        self.did[how] += 1
        if how == "keep":
            kept.unlink(missing_ok=True)
            copy_store(node.path, kept)
            return
        if how != "reinstall" and not kept.exists():
            return
        self._settle(node)
        if how == "restore":
            restore_store(node.path, kept)
        else:
            for path in node.path.parent.glob(f"{node.path.name}*"):
                path.unlink()
            if how == "copy":
                shutil.copy(kept, node.path)
            Store.open(node.path).close()
        node.noted.clear()  # what was not shipped is lost
        node.covered_from = None

    def _ship(self, node: Node) -> None:
        how = self.random.choices(("well", "lossy", "killed", "server killed", "clone"), (40, 40, 15, 3, 4))[
            0
        ]
        self.did[how] += 1
        getattr(self, "_ship_" + how.replace(" ", "_"))(node)
        self._settle(node)

    def _ship_well(self, node: Node) -> None:
        with connect(node.parameters) as connection, Reader.open(node.path) as reader:
            ship(reader, centre_module.Centre(connection, "centre"), "1")
        self._settle(node)
        self._compare_with_store(node)

    def _ship_lossy(self, node: Node) -> None:
        try:
            with connect(node.parameters) as connection, Reader.open(node.path) as reader:
                lossy = LossyCentre(connection, place_of(node.parameters))
                lossy.draw, lossy.sent = self.random, node.sent
                ship(reader, lossy, "1")
        except CentreUnavailableError:
            self.did["lost answers"] += 1
        except RepeatTakenError:
            self._fault(node, "a repeated call was taken")

    def _ship_killed(self, node: Node) -> None:
        """Kill the process of an agent while it ships."""
        child = os.fork()
        if not child:
            code = 1
            try:
                with connect(node.parameters) as connection, Reader.open(node.path) as reader:
                    ship(reader, centre_module.Centre(connection, "centre"), "1")
                code = 0
            finally:
                os._exit(code)
        time.sleep(self.random.random() * 0.06)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def _ship_server_killed(self, node: Node) -> None:
        """Kill PostgreSQL while an agent ships."""
        timer = threading.Timer(self.random.random() * 0.05, self.server.kill)
        timer.start()
        try:
            self._ship_well(node)
        except (ImagekeepError, psycopg.Error):
            self.did["failed shipments"] += 1
        timer.join()
        self.server.start()
        self.owner.close()
        self.owner = self._connect()

    def _ship_clone(self, node: Node) -> None:
        """Let a copy of the store change and ship under the same name, and then the store itself."""
        other = replace(node, path=node.path.with_suffix(".clone"), noted=[], due=[])
        shutil.copy(node.path, other.path)
        node.dated = False
        self._ship_well(node)
        self._change(other)
        self._ship_well(other)
        self._change(node)
        self._ship_well(node)
        other.path.unlink()

    def _settle(self, node: Node) -> None:
        """Wait until no shipment of a node runs, bring its model to the centre's cursor, and compare the states."""
        while self._one(ACTIVE, node.parameters["user"]):
            time.sleep(0.001)
        [(epoch, sequence)] = self._rows(NODE, node.name)
        model = node.model
        for began, start, at in self._rows(EPOCHS, node.name, model.epoch):
            model.take_state(state_after(rows_between(node.path, 0, start)), began, start)
            node.covered_from = at
        model.take_rows(rows_between(node.path, model.sequence, sequence))
        if (model.epoch, model.sequence) != (epoch, sequence):
            self._fault(node, f"the cursor is {epoch} {sequence}, not {model.epoch} {model.sequence}")
        found = {row[0]: Value(*row[1:5]) for row in self._rows(OPEN, node.name)}
        if found != model.state():
            self._fault(node, "the state differs")
        self._keep_moments(node, sequence)

    def _keep_moments(self, node: Node, sequence: int) -> None:
        """Set aside the noted moments that the centre has rows for; it must know them from then on."""
        reached = [moment for moment in node.noted if moment.sequence <= sequence]
        node.noted = [moment for moment in node.noted if moment.sequence > sequence]
        for moment in reached:
            if node.dated and not node.clock and node.covered_from and moment.at >= node.covered_from:
                moment.state = state_after(rows_between(node.path, 0, moment.sequence))
                node.due.append(moment)

    def _compare_with_store(self, node: Node) -> None:
        with Reader.open(node.path) as reader:
            here = {(wire_name(name), each.image_id, each.pinned) for name, each in reader.states().items()}
        if {(row[0], row[1], row[4]) for row in self._rows(OPEN, node.name)} != here:
            self._fault(node, "the state differs from the store's")

    def _compare_ranges(self, node: Node) -> None:
        rows = self._rows(CLOSED, node.name)
        closed = Counter(Closed(row[0], Value(*row[1:5]), *row[5:8]) for row in rows)
        if closed != node.model.closed:
            surplus, missing = closed - node.model.closed, node.model.closed - closed
            self._fault(node, f"{surplus.total()} surplus and {missing.total()} missing ranges")
        opened = self._rows(OPEN, node.name)
        state = {row[0]: (Value(*row[1:5]), row[5], row[6]) for row in opened}
        if state != {name: tuple(each) for name, each in node.model.open.items()}:
            self._fault(node, "the final state differs")
        self._compare_times(
            node, [(row[0], row[8], row[9]) for row in rows] + [(r[0], r[7], None) for r in opened]
        )
        for moment in node.due:
            self.did["moments asked"] += 1
            answer = {row[0]: Value(*row[1:]) for row in self._rows(AS_OF, node.name, moment.at)}
            if answer != moment.state:
                self._fault(node, f"the state as of {moment.at} differs")

    def _compare_times(self, node: Node, ranges: list[tuple[str, datetime, datetime | None]]) -> None:
        """Check that the ranges of a name do not overlap, and that none lies in the future."""
        now = self._one("SELECT clock_timestamp()")
        last: dict[str, datetime] = {}
        for name, start, end in sorted(ranges, key=lambda each: (each[0], each[1], each[2] or now)):
            if start > now or (end and not start <= end <= now) or (name in last and start < last[name]):
                self._fault(node, f"ranges of {name[:20]!r} overlap or lie in the future")
            last[name] = end or now

    def _fault(self, node: Node, what: str) -> None:
        self.wrong.append(f"{node.name}: {what}")

    def _enroll(self, number: int) -> Node:
        name = f"node-{number}"
        role, password = enroll(self.owner, name)
        path = self.directory / f"{name}.db"
        Store.open(path).close()
        clock = (0, 0, 0, YEAR, -YEAR)[number % 5]
        return Node(name, path, self.server.tls("postgres", role) | {"password": password or ""}, clock)

    def _connect(self) -> Connection:
        return psycopg.connect(self.server.url("postgres"), autocommit=True)

    def _rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.owner.execute(sql.encode(), arguments).fetchall()
        return rows

    def _one(self, sql: str, *arguments: object) -> Any:
        [(value,)] = self._rows(sql, *arguments)
        return value


@contextlib.contextmanager
def shifted(by: int) -> Iterator[None]:
    """Put imagekeep's clock off by so many microseconds; nothing else can do that for one store."""

    def timestamp() -> int:
        return time.time_ns() // 1000 + by

    with (
        patch.object(internals, "timestamp", timestamp),
        patch.object(shipment, "current_time", lambda: from_microseconds(timestamp())),
    ):
        yield


def torture(
    changes: int, nodes: int, seed: int, *, commits: int = 12, directory: str | None = None
) -> Torture:
    """Run it in directories of its own; make up to `commits` of a store between shipments."""
    with tempfile.TemporaryDirectory(dir=directory) as name, running(fsync=True) as server:
        found = Torture(server, Path(name), nodes, seed)
        found.commits = commits
        try:
            found.run(changes)
        finally:
            found.owner.close()
    return found


def main() -> int:
    """Run with the command line's sizes; print what was done and found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument(
        "--commits", type=int, default=60, help="commits of a store between shipments, at most"
    )
    parser.add_argument("--directory", help="where the stores are made; one in memory is faster")
    arguments = parser.parse_args()
    began = time.monotonic()
    found = torture(**vars(arguments))
    seconds = round(time.monotonic() - began)
    report = {"seed": arguments.seed, "seconds": seconds, **found.did, "wrong": found.wrong[:20]}
    sys.stdout.write(f"{json.dumps(report, indent=2)}\n")
    return bool(found.wrong)


if __name__ == "__main__":
    sys.exit(main())
