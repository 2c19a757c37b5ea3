"""The traces of the store, put from their short form (indices into a pool) into the operations of quirks.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.data import documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conformance.answers import Operation, StoreState

Pool = dict[str, Any]


def traces(kind: str) -> list[tuple[str, list[Operation]]]:
    """Return every trace of a kind with a name for it."""
    return [
        (f"{name}:{number}", operations_of(document["pools"][case["pool"]], case["ops"], case["final"]))
        for name, document in documents("store_traces")
        for number, case in enumerate(document["cases"])
        if case["kind"] == kind
    ]


def operations_of(pool: Pool, steps: Sequence[list[Any]], final: Any) -> list[Operation]:
    """Return the operations of a trace; the last of them has the state that is recorded for the end."""
    operations = [operation_of(pool, step) for step in steps]
    if final is not None:
        operations[-1].setdefault("state", state_of_trace(pool, final))
    return operations


def operation_of(pool: Pool, step: list[Any]) -> Operation:
    """Return one step as an operation with its class, its result, and the state after it where that changed."""
    references, images = pool["refs"], pool["images"]
    match step:
        case ["update", reference, image, pinned, size, carried, result, state]:
            operation = {"op": "update", "ref": references[reference], "class": result}
            if image is not None:
                operation["image"] = images[image] | {
                    "size": size,
                    "pinned": bool(pinned),
                    "references": [references[each] for each in carried],
                }
        case ["pin" | "unpin" as verb, image_id, reference, result, state]:
            operation = {"op": verb, "id": image_id, "ref": references[reference], "class": result}
        case ["is_pinned", image_id, reference, pinned]:
            return {
                "op": "is_pinned",
                "id": image_id,
                "ref": references[reference],
                "class": "ok",
                "result": pinned,
            }
        case ["resolve", reference, result, image]:
            found = None if image is None else images[image]["id"]
            return {"op": "resolve", "ref": references[reference], "class": result, "result": found}
        case ["get", image_id, result, image]:
            found = image and image_of(pool, image)
            return {"op": "get", "id": image_id, "class": result, "result": found}
        case ["list", listed]:
            return {"op": "list", "class": "ok", "result": [images[image]["id"] for image in listed]}
        case _:
            raise ValueError(f"no such step: {step}")
    return operation | ({} if state is None else {"state": state_of_trace(pool, state)})


def image_of(pool: Pool, listed: Sequence[Any]) -> dict[str, Any]:
    """Return an image of a trace: index, size, pinned, references."""
    image, size, pinned, references, *_ = listed
    return {
        **pool["images"][image],
        "size": size,
        "pinned": bool(pinned),
        "references": [pool["refs"][each] for each in references],
    }


def state_of_trace(pool: Pool, state: dict[str, Any]) -> StoreState:
    """Return a state of a trace in the words of quirks.json."""
    ids = [image["id"] for image in pool["images"]]
    return {
        "images": {ids[listed[0]]: image_of(pool, listed) for listed in state["im"]},
        "pinned_refs": {
            ids[image]: [pool["refs"][each] for each in pins]
            for image, *_, pins in state["im"]
            if pins is not None
        },
        "ref_cache": {pool["refs"][reference]: ids[image] for reference, image in state["rc"]},
    }
