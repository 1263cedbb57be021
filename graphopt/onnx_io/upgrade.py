"""Bringing nodes of older opsets to the one the IR speaks.

Passes and lowerings know a single form of each operator. An adapter rewrites the description of a node,
before it enters the graph, from the version in front of it to the next; a node passes through all the
adapters between its version and the IR's. Changes that only admit more types, or add an attribute whose default is
the old meaning, need none. Source: the "Changelog" of ONNX's operator specifications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.onnx_io.draft import Draft

CANONICAL_OPSET = 24
"""The version the IR speaks; models of newer versions keep theirs."""

OLDEST_OPSET = 7

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


def _dropout_mask(draft: Draft) -> None:
    """Before opset 10 the mask was of the data's type."""
    x = draft.inputs[0]
    if len(draft.outputs) > 1 and x is not None:
        to, build = x.dtype.onnx_code, draft.build
        draft.after[1] = lambda mask: build.op("Cast", mask, to=to)


def _batch_normalization(draft: Draft) -> None:
    """`spatial=0`: a scale, a mean, ... for each element instead of each channel; one thing for a matrix."""
    x = draft.inputs[0]
    if int(draft.attributes.pop("spatial", 1)) == 1 or (x is not None and x.rank == 2):
        return
    if len(draft.outputs) > 1:
        raise UnsupportedError("it is trained with spatial=0", where=draft.where)
    _, scale, shift, mean, variance = draft.inputs
    build, epsilon = draft.build, draft.attributes.pop("epsilon", 1e-5)
    assert variance is not None
    deviation = build.op("Sqrt", build.op("Add", variance, build.const(epsilon, like=variance)))
    normal = build.op("Div", build.op("Sub", x, mean), deviation)
    draft.op_type, draft.inputs, draft.attributes = "Add", [build.op("Mul", normal, scale), shift], {}


def _batch_normalization_outputs(draft: Draft) -> None:
    """More outputs than one used to say that the node is in training."""
    if len(draft.outputs) > 3:
        raise UnsupportedError("it gives the statistics of training", where=draft.where)
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


def _resize_optional(draft: Draft) -> None:
    """Before opset 13 what is not given was an empty tensor, and TensorFlow's coordinates had a mode."""
    for index in range(1, len(draft.inputs)):
        value = draft.inputs[index]
        if value is not None and value.constant is not None and not value.constant.size:
            draft.inputs[index] = None
    if draft.attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if draft.attributes.get("nearest_mode", "round_prefer_floor") != "floor":
            raise UnsupportedError("tf_half_pixel_for_nn that does not round down", where=draft.where)
        # floor((i + 0.5) / s) is what rounds to the nearest, (i + 0.5) / s - 0.5, upwards from the middle
        draft.attributes["coordinate_transformation_mode"] = "half_pixel"
        draft.attributes["nearest_mode"] = "round_prefer_ceil"


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
    ("Dropout", 10): _dropout_mask,
    ("Dropout", 12): _dropout,
    ("GridSample", 20): _grid_sample,
    ("GroupNormalization", 21): _group_normalization,
    ("Hardmax", 13): _flattening_softmax,
    ("LogSoftmax", 13): _flattening_softmax,
    ("Pad", 11): _pad,
    ("ReduceSum", 13): _axes_to_input,
    **{(f"Reduce{kind}", 18): _axes_to_input for kind in REDUCTIONS},
    ("Resize", 11): _resize,
    ("Resize", 13): _resize_optional,
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
