"""Bringing nodes of older opsets to the one the IR speaks.

Passes and lowerings know a single form of each operator. An adapter rewrites the description of a node,
before it enters the graph, from the version in front of it to the next; a node passes through all the
adapters between its version and the IR's. Changes that only admit more types need none. Source: the
"Changelog" of ONNX's operator specifications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.ir import Value
from graphopt.rewrite.builder import Builder

CANONICAL_OPSET = 24
"""The version the IR speaks; models of newer versions keep theirs."""

OLDEST_OPSET = 7


@dataclass
class Draft:
    """A node on its way in: `outputs` are the model's names for what it computes.

    `after` wraps outputs, by number, once the node exists.
    """

    op_type: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: list[str]
    name: str
    build: Builder
    after: dict[int, Callable[[Value], Value]] = field(default_factory=dict)

    def to_input(self, attribute: str, index: int) -> None:
        """Turn an attribute of integers into the input `index`."""
        value = self.attributes.pop(attribute, None)
        if value is not None:
            self.set(index, self.build.shape([int(v) for v in value], attribute))  # type: ignore[union-attr]

    def set(self, index: int, value: Value | None) -> None:
        while len(self.inputs) <= index:
            self.inputs.append(None)
        self.inputs[index] = value

    @property
    def where(self) -> str:
        return f"node '{self.name}' ({self.op_type})"


Adapter = Callable[[Draft], None]


def upgrade(draft: Draft, version: int) -> None:
    """Apply every adapter between the model's opset `version` and the IR's, oldest first."""
    done = version
    while done < CANONICAL_OPSET:
        steps = [v for (op, v) in ADAPTERS if op == draft.op_type and v > done]
        if not steps:
            return
        done = min(steps)
        ADAPTERS[draft.op_type, done](draft)


def _axes_to_input(draft: Draft) -> None:
    draft.to_input("axes", 1)


def _clip(draft: Draft) -> None:
    like = draft.inputs[0]
    assert like is not None
    for index, name in ((1, "min"), (2, "max")):
        value = draft.attributes.pop(name, None)
        if value is not None:
            draft.set(index, draft.build.const(value, like=like, name=name))


def _slice(draft: Draft) -> None:
    starts = draft.attributes.get("starts", ())
    draft.to_input("starts", 1)
    draft.to_input("ends", 2)
    if "axes" not in draft.attributes:
        draft.attributes["axes"] = tuple(range(len(starts)))
    draft.to_input("axes", 3)


def _pad(draft: Draft) -> None:
    like = draft.inputs[0]
    assert like is not None
    value = float(draft.attributes.pop("value", 0.0))
    draft.to_input("pads", 1)
    if value:
        draft.set(2, draft.build.const(value, like=like, name="pad_value"))


def _split(draft: Draft) -> None:
    draft.to_input("split", 1)


def _split_count(draft: Draft) -> None:
    if draft.inputs[1:2] in ([], [None]):
        draft.attributes["num_outputs"] = len(draft.outputs)


def _flattening_softmax(draft: Draft) -> None:
    """Up to opset 12 the operand is a matrix: axes from `axis` on are one."""
    x = draft.inputs[0]
    assert x is not None
    axis = int(draft.attributes.pop("axis", 1))
    if axis == -1 or (x.rank is not None and axis == x.rank - 1):
        draft.attributes["axis"] = -1
        return
    build, shape = draft.build, draft.build.op("Shape", x)
    draft.set(0, build.op("Flatten", x, axis=axis))
    draft.attributes["axis"] = -1
    draft.after[0] = lambda y: build.op("Reshape", y, shape)


def _dropout(draft: Draft) -> None:
    draft.attributes.pop("ratio", None)


def _batch_normalization(draft: Draft) -> None:
    if int(draft.attributes.pop("spatial", 1)) != 1:
        raise UnsupportedError("BatchNormalization with spatial=0", where=draft.where)


def _batch_normalization_outputs(draft: Draft) -> None:
    if len(draft.outputs) > 1:
        draft.attributes["training_mode"] = 1


def _upsample_scales(draft: Draft) -> None:
    scales = draft.attributes.pop("scales")
    draft.set(1, draft.build.const(np.asarray(scales, np.float32), name="scales"))


def _upsample(draft: Draft) -> None:
    draft.op_type = "Resize"


def _resize(draft: Draft) -> None:
    """Before opset 11 a coordinate was divided by the scale and rounded down."""
    draft.inputs[1:2] = [None, *draft.inputs[1:2]]
    draft.attributes["coordinate_transformation_mode"] = "asymmetric"
    draft.attributes["nearest_mode"] = "floor"


def _top_k(draft: Draft) -> None:
    draft.set(1, draft.build.shape([int(draft.attributes.pop("k"))], "k"))


def _scatter(draft: Draft) -> None:
    draft.op_type = "ScatterElements"


def _grid_sample(draft: Draft) -> None:
    names = {"bilinear": "linear", "bicubic": "cubic"}
    mode = draft.attributes.get("mode", "bilinear")
    draft.attributes["mode"] = names.get(mode, mode)


def _dft(draft: Draft) -> None:
    axis = int(draft.attributes.pop("axis", 1))
    draft.set(2, draft.build.const(np.asarray(axis, np.int64), name="axis"))


def _group_normalization(draft: Draft) -> None:
    """Opset 18 gave scale and bias per group; opset 21 wants them per channel."""
    x, groups = draft.inputs[0], int(draft.attributes["num_groups"])
    if x is None or x.shape is None or not isinstance(x.shape[1], int):
        raise UnsupportedError("the number of channels is unknown", where=draft.where)
    repeats, build = x.shape[1] // groups, draft.build
    for index in (1, 2):
        value = draft.inputs[index]
        assert value is not None
        column = build.op("Reshape", value, build.shape([groups, 1]))
        wide = build.op("Expand", column, build.shape([groups, repeats]))
        draft.inputs[index] = build.op("Reshape", wide, build.shape([x.shape[1]]))


def _roi_align(draft: Draft) -> None:
    draft.attributes.setdefault("coordinate_transformation_mode", "output_half_pixel")


def _scan(draft: Draft) -> None:
    raise UnsupportedError(
        "Scan of opset 8", where=draft.where, hint="export the model with opset 9 or newer"
    )


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

ADAPTERS: Mapping[tuple[str, int], Adapter] = {
    ("BatchNormalization", 9): _batch_normalization,
    ("BatchNormalization", 14): _batch_normalization_outputs,
    ("Clip", 11): _clip,
    ("DFT", 20): _dft,
    ("Dropout", 12): _dropout,
    ("GridSample", 20): _grid_sample,
    ("GroupNormalization", 21): _group_normalization,
    ("Hardmax", 13): _flattening_softmax,
    ("LogSoftmax", 13): _flattening_softmax,
    ("Pad", 11): _pad,
    ("ReduceSum", 13): _axes_to_input,
    **{(f"Reduce{kind}", 18): _axes_to_input for kind in REDUCTIONS},
    ("Resize", 11): _resize,
    ("RoiAlign", 16): _roi_align,
    ("Scan", 9): _scan,
    ("Scatter", 11): _scatter,
    ("Slice", 10): _slice,
    ("Softmax", 13): _flattening_softmax,
    ("Split", 13): _split,
    ("Split", 18): _split_count,
    ("Squeeze", 13): _axes_to_input,
    ("TopK", 10): _top_k,
    ("Unsqueeze", 13): _axes_to_input,
    ("Upsample", 9): _upsample_scales,
    ("Upsample", 10): _upsample,
}
"""(operator, version that changed it) -> what to do with the older form."""
