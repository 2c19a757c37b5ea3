"""A model of a store in two dicts, with which real stores are compared, and random operations for both.

An operation is a verb and its arguments, as `("get", "sha256:ab")`. `perform` does it on a Store or on a Model,
whose verbs are the same, and returns what a caller would see.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from imagekeep import Image, ObservedImage, Store, Transition, internals
from imagekeep.digest import digest_of
from imagekeep.errors import (
    AmbiguousError,
    ImagekeepError,
    ImageNotFoundError,
    InvalidArgumentError,
    PinNeedsReferenceError,
)
from imagekeep.oci.image import chain_id
from imagekeep.reference import sort_references
from imagekeep.transition import ReferenceState, decide

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

Operation = tuple[Any, ...]
Answer = tuple[str, Any]

PLATFORM = "linux/amd64"


class Model:
    """A store in two dicts: the state of each reference, and each image."""

    def __init__(self) -> None:
        self.said: dict[str, ReferenceState] = {}
        self.known: dict[str, ObservedImage] = {}

    def apply(self, reference: str, observed: ObservedImage | None) -> Transition:
        return self._put(reference, self._after(observed), observed)

    def apply_all(self, observed: Mapping[str, ObservedImage | None]) -> dict[str, Transition]:
        # New names come first and vanished ones last, so that an image that only changes names stays as it is.
        order = (Transition.NEW, Transition.MOVED)
        later = {name: decide(self.said.get(name), self._after(facts)) for name, facts in observed.items()}
        for transition in (*order, *(each for each in Transition if each not in order)):
            for name in [name for name, each in later.items() if each is transition]:
                self.apply(name, observed[name])
        return later

    def add(self, image: Image) -> None:
        if not image.references:
            raise InvalidArgumentError("an image has at least one reference")
        facts = ObservedImage(image.id, image.chain_id, image.size, image.config_json, None)
        for reference in image.references:
            after = ReferenceState(image.id, image.pinned)
            if (before := self.said.get(reference)) and before.image_id == image.id:
                after = before._replace(pinned=before.pinned or image.pinned)
            self._put(reference, after, facts)

    def delete(self, image_id: str, reference: str) -> bool:
        try:
            there = self._names(image_id, reference)
        except (ImageNotFoundError, AmbiguousError):
            return False
        if there:
            self.apply(reference, None)
        return there

    def pin(self, image_id: str, reference: str) -> None:
        if not self._names(image_id, reference):
            raise PinNeedsReferenceError(reference)
        self.said[reference] = self.said[reference]._replace(pinned=True)

    def unpin(self, image_id: str, reference: str) -> None:
        if self._names(image_id, reference):
            self.said[reference] = self.said[reference]._replace(pinned=False)

    def is_pinned(self, image_id: str, reference: str) -> bool:
        try:
            return self._names(image_id, reference) and self.said[reference].pinned
        except ImagekeepError:
            return False

    def resolve(self, reference: str) -> str:
        if reference not in self.said:
            raise ImageNotFoundError(reference)
        return self.said[reference].image_id

    def get(self, image_id: str) -> Image:
        facts = self.known[self.find(image_id)]
        references = [name for name, state in self.said.items() if state.image_id == facts.id]
        pinned = any(self.said[name].pinned for name in references)
        names = tuple(sort_references(references))
        return Image(facts.id, names, facts.chain_id, facts.size, pinned, facts.config_json)

    def list(self) -> list[Image]:
        return [self.get(image_id) for image_id in sorted(self.known)]

    def states(self) -> dict[str, ReferenceState]:
        return self.said

    def find(self, image_id: str) -> str:
        """Return the id of sha256 that an id, full or truncated, stands for, by looking at each."""
        if not image_id:
            raise InvalidArgumentError("image id is empty")
        algorithm, _, encoded = image_id.rpartition(":")
        bare = algorithm in ("", "sha256") and image_id != f":{encoded}"
        found = [each for each in self.known if bare and encoded and each[7:].startswith(encoded)]
        if not found:
            raise ImageNotFoundError(image_id)
        if len(found) > 1:
            raise AmbiguousError(image_id, sorted(found))
        return found[0]

    def _put(self, reference: str, after: ReferenceState | None, facts: ObservedImage | None) -> Transition:
        before = self.said.pop(reference, None)
        if after and facts:
            self.known.setdefault(facts.id, facts)
            self.said[reference] = after
        named = {state.image_id for state in self.said.values()}
        self.known = {image_id: kept for image_id, kept in self.known.items() if image_id in named}
        return decide(before, after)

    @staticmethod
    def _after(observed: ObservedImage | None) -> ReferenceState | None:
        return (
            ReferenceState(observed.id, observed.pinned, observed.target_digest, None) if observed else None
        )

    def _names(self, image_id: str, reference: str) -> bool:
        found = self.find(image_id)
        return reference in self.said and self.said[reference].image_id == found


def perform(store: Store | Model, operation: Operation) -> Answer:
    """Perform an operation; return the class of its answer and the answer."""
    verb, *arguments = operation
    act = getattr(store, verb, None) or partial(getattr(internals, verb), store)
    try:
        return "ok", act(*arguments)
    except AmbiguousError as error:
        return error.category.value, (error.candidates, error.total)
    except ImagekeepError as error:
        return error.category.value, None


def everything(store: Store | Model) -> tuple[list[Image], dict[str, ReferenceState]]:
    """Return the whole content of a store."""
    return store.list(), store.states()


def real_image(number: int, size: int = 1000) -> ObservedImage:
    """Return an image with a valid config document and chain id."""
    layers = [digest_of(f"layer {layer}".encode()) for layer in range(number % 4)]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"NUMBER={number}"]},
        "rootfs": {"type": "layers", "diff_ids": layers},
    }
    document = json.dumps(config).encode()
    target = digest_of(f"manifest of {number}".encode())
    return ObservedImage(digest_of(document), chain_id(layers), size + number, document, target)


IMAGES = tuple(map(real_image, range(24)))
"""Enough images for many ids to share leading parts."""

REFERENCES = (
    *(f"docker.io/library/app:{tag}" for tag in ("1", "2", "3", "latest")),
    *(
        "busybox",
        "busybox:1.36",
        "docker.io/library/busybox:1.36",
        "Registry.test/Upper:X",
        "not a reference",
    ),
    *(
        "registry.test/team/app:v1",
        "registry.test/team/app:V1",
        f"registry.test/app@{IMAGES[0].target_digest}",
    ),
    *(IMAGES[0].id, IMAGES[1].id[7:], "ключ", "a" * 300),
)
"""References of every kind: two spellings of one, two that differ in case, an id, and an invalid one."""


class Operations:
    """Draws random operations, determined by the seed of `random`."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def draw(self) -> Operation:
        """Return one operation: half of them change something, if there is something to change."""
        kind = self.random.randrange(20)
        if kind < 8:
            return ("apply", self.reference(), self.observed())
        if kind < 9:
            names = {self.reference() for _ in range(self.random.randrange(1, 6))}
            return ("apply_all", {name: self.observed() for name in sorted(names)})
        if kind < 10:
            return ("add", self.image())
        verb = ("get", "get", "get", "resolve", "list", "is_pinned", "pin", "pin", "unpin", "delete")[
            kind - 10
        ]
        arguments: dict[str, Iterable[Any]] = {
            "get": (self.image_id(),),
            "resolve": (self.reference(),),
            "list": (),
        }
        return (verb, *arguments.get(verb, (self.image_id(), self.reference())))

    def reference(self) -> str:
        return self.random.choice(REFERENCES[: self.random.choice((5, len(REFERENCES)))])

    def facts(self) -> ObservedImage:
        """Return an image: some often, so that operations meet, and others seldom."""
        return self.random.choice(IMAGES[: self.random.choice((3, 3, 8, len(IMAGES)))])

    def observed(self) -> ObservedImage | None:
        """Return an image as its source says it is: pinned or not, of any size, or nothing."""
        if not self.random.randrange(4):
            return None
        return replace(
            self.facts(), pinned=not self.random.randrange(3), size=self.random.randrange(3) * 1000
        )

    def image(self) -> Image:
        """Return an image with any references, or with none."""
        names = tuple(self.reference() for _ in range(self.random.randrange(4)))
        facts, pinned = self.facts(), not self.random.randrange(3)
        return Image(facts.id, names, facts.chain_id, facts.size, pinned, facts.config_json)

    def image_id(self) -> str:
        """Return an id: full or truncated, with its algorithm or without; now and then what is none."""
        if not self.random.randrange(12):
            return self.random.choice(("", ":", "sha256", "sha256:", "g", "AB", "md5:ab", "0\n", "sha512:0"))
        whole = self.facts().id
        length = self.random.choice((1, 1, 2, 3, 12, 63, 64))
        return self.random.choice(("", "sha256:")) + whole[7 : 7 + length]
