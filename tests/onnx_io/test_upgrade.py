"""Old forms of operators mean the same once they are read: ONNX Runtime runs the old model, we the new graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import defs, helper

from graphopt.errors import ModelError, UnsupportedError
from graphopt.ir import DType
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.upgrade import ADAPTERS, CANONICAL_OPSET, OLDEST_OPSET
from tests.onnx_io.oracle import UNIT, check_same_meaning, one_node

TOLERANCE = 64 * UNIT
"""Of the output's scale: no output here sums more than 64 products, and both sides round each once."""

random = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return random.uniform(0.5, 2, shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One node at an opset; `weights` are the inputs given as initializers, by number."""

    operator: str
    opset: int
    arrays: list[np.ndarray | None]
    attributes: Mapping[str, object] = field(default_factory=dict)
    outputs: int = 1
    weights: tuple[int, ...] = ()
    symbolic: bool = False

    def model(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        names = [f"y{k}" for k in range(self.outputs)]
        node = helper.make_node(self.operator, [], names, **self.attributes)
        weights = {k: a for k in self.weights if (a := self.arrays[k]) is not None}
        return one_node(node, self.arrays, opset=self.opset, weights=weights, symbolic=self.symbolic)

    def __str__(self) -> str:
        said = "-".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.operator}-{self.opset}-{said}{'-symbolic' if self.symbolic else ''}".replace(" ", "")


IMAGE, MATRIX, CUBE = normal(2, 3, 6, 5), normal(4, 5), normal(2, 3, 4)
CHANNELS = [normal(3), normal(3), normal(3), positive(3)]
EACH = [normal(3, 6, 5), normal(3, 6, 5), normal(3, 6, 5), positive(3, 6, 5)]
ROW = [normal(5), normal(5), normal(5), positive(5)]
REDUCTIONS = "L1 L2 LogSumExp Max Mean Min Prod SumSquare".split()
UP = np.array([1, 1, 2, 1.5], np.float32)
NOTHING = np.zeros(0, np.float32)

CHANGED = [
    Case("BatchNormalization", 7, [IMAGE, *CHANNELS], {"epsilon": 1e-3}),
    Case("BatchNormalization", 8, [MATRIX, *ROW], {"spatial": 0}),
    Case("BatchNormalization", 7, [IMAGE, *EACH], {"spatial": 0, "epsilon": 0.1}),
    Case("BatchNormalization", 9, [IMAGE, *CHANNELS]),
    Case("Clip", 7, [IMAGE], {"min": -0.5, "max": 0.5}),
    Case("Clip", 7, [IMAGE], {"max": 0.25}),
    Case("Clip", 10, [IMAGE]),
    Case("DFT", 17, [normal(1, 8, 1)], {"axis": 1}),
    Case("DFT", 17, [normal(2, 8, 6, 1)], {"axis": 2, "onesided": 1}),
    Case("DFT", 17, [normal(2, 8, 6, 2)], {"inverse": 1}),
    Case("Dropout", 7, [IMAGE], {"ratio": 0.75}),
    Case("Dropout", 10, [IMAGE]),
    *(Case("GridSample", 16, [IMAGE, normal(2, 4, 4, 2)], {"mode": m}) for m in ("bilinear", "bicubic")),
    Case("GridSample", 16, [IMAGE, normal(2, 4, 4, 2)], {"mode": "nearest", "padding_mode": "border"}),
    Case("GroupNormalization", 18, [normal(2, 6, 4), positive(3), normal(3)], {"num_groups": 3}),
    *(
        Case(operator, opset, [CUBE], attributes, symbolic=symbolic)
        for operator in ("Hardmax", "LogSoftmax", "Softmax")
        for opset, attributes in ((7, {}), (7, {"axis": 0}), (11, {"axis": -2}), (11, {"axis": -1}))
        for symbolic in (False, True)
    ),
    Case("Softmax", 7, [MATRIX]),
    Case("Pad", 7, [MATRIX], {"pads": [1, 0, 2, 1], "value": 1.5}),
    Case("Pad", 7, [MATRIX], {"pads": [1, 0, -2, 1]}),
    *(Case("Pad", 10, [MATRIX], {"pads": [1, 2, 1, 0], "mode": mode}) for mode in ("reflect", "edge")),
    Case("ReduceSum", 7, [CUBE], {"axes": [0, 2]}),
    Case("ReduceSum", 12, [CUBE], {"keepdims": 0}),
    Case("ReduceLogSum", 7, [np.abs(CUBE)], {"axes": [1]}),
    *(Case(f"Reduce{kind}", 7, [CUBE], {"axes": [1], "keepdims": 0}) for kind in REDUCTIONS),
    *(Case(f"Reduce{kind}", 13, [CUBE], {"axes": [-1]}) for kind in REDUCTIONS),
    Case("ReduceMean", 13, [CUBE]),
    *(Case("Resize", 10, [IMAGE, UP], {"mode": mode}, weights=(1,)) for mode in ("nearest", "linear")),
    Case("Resize", 11, [IMAGE, NOTHING, UP], {"mode": "linear"}, weights=(1, 2)),
    Case("Resize", 11, [IMAGE, NOTHING, NOTHING, ints(2, 3, 9, 4)], {"mode": "cubic"}, weights=(1, 2, 3)),
    Case(
        "Resize",
        11,
        [IMAGE, NOTHING, UP],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
        weights=(1, 2),
    ),
    Case(
        "Resize",
        11,
        [IMAGE, np.array([0, 0, 0.2, 0.1, 1, 1, 0.8, 1], np.float32), NOTHING, ints(2, 3, 4, 4)],
        {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
        weights=(1, 2, 3),
    ),
    Case(
        "RoiAlign",
        10,
        [IMAGE, np.array([[0, 0, 3, 4], [1, 1, 4, 4]], np.float32), ints(0, 1)],
        {"output_height": 2, "output_width": 2, "sampling_ratio": 2},
    ),
    Case("Scatter", 9, [MATRIX, ints(0, 2, 1).reshape(1, 3), normal(1, 3)], {"axis": 1}),
    Case("Slice", 7, [CUBE], {"starts": [1, 0], "ends": [9, -1]}),
    Case("Slice", 9, [CUBE], {"starts": [-2], "ends": [9], "axes": [2]}),
    Case("Split", 7, [CUBE], {"axis": 2, "split": [1, 3]}, outputs=2),
    Case("Split", 11, [CUBE], {"axis": -1}, outputs=2),
    Case("Split", 13, [CUBE], {"axis": 1}, outputs=3),
    Case("Squeeze", 7, [normal(1, 3, 1)], {"axes": [2]}),
    Case("Squeeze", 11, [normal(1, 3, 1)]),
    Case("TopK", 7, [MATRIX], {"k": 2}, outputs=2),
    Case("TopK", 10, [MATRIX, ints(3)], {"axis": 0}, outputs=2, weights=(1,)),
    Case("Unsqueeze", 7, [MATRIX], {"axes": [0, 3]}),
    Case("Unsqueeze", 11, [MATRIX], {"axes": [-1]}),
    *(
        Case("Upsample", 7, [IMAGE], {"mode": m, "scales": [1.0, 1.0, 2.0, 3.0]})
        for m in ("nearest", "linear")
    ),
    Case("Upsample", 9, [IMAGE, UP], {"mode": "nearest"}, weights=(1,)),
]

X, W, R = normal(3, 2, 4), normal(1, 12, 4), normal(1, 12, 3)

UNCHANGED = [
    Case("ArgMax", 7, [CUBE], {"axis": 1}),
    Case("AveragePool", 7, [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    Case("AveragePool", 10, [IMAGE], {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 0, 0, 1]}),
    Case("Cast", 7, [IMAGE], {"to": 6}),
    Case("Concat", 7, [CUBE, CUBE], {"axis": 2}),
    Case("ConvTranspose", 7, [IMAGE, normal(3, 2, 3, 3)], {"strides": [2, 2]}),
    Case("DepthToSpace", 7, [normal(1, 8, 2, 3)], {"blocksize": 2}),
    Case(
        "DequantizeLinear",
        10,
        [np.arange(6, dtype=np.uint8), np.array(0.5, np.float32), np.array(3, np.uint8)],
    ),
    Case("Flatten", 7, [CUBE], {"axis": 2}),
    Case("Gather", 7, [CUBE, ints(2, 0)], {"axis": 1}),
    Case("Gemm", 7, [MATRIX, normal(5, 3), normal(3)], {"alpha": 0.5, "beta": 2.0}),
    Case("GRU", 7, [X, normal(1, 9, 4), normal(1, 9, 3)], {"hidden_size": 3}, outputs=2),
    Case("InstanceNormalization", 7, [IMAGE, *CHANNELS[:2]]),
    Case("LRN", 7, [IMAGE], {"size": 3}),
    Case("LSTM", 7, [X, W, R], {"hidden_size": 3}, outputs=3),
    Case("MaxPool", 7, [IMAGE], {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MeanVarianceNormalization", 9, [IMAGE]),
    Case("OneHot", 9, [ints(0, 2), ints(3), np.array([0, 1], np.float32)], weights=(1,)),
    Case("PRelu", 7, [IMAGE, normal(3, 1, 1)]),
    Case("QuantizeLinear", 10, [MATRIX, np.array(0.1, np.float32), np.array(128, np.uint8)]),
    Case("Reshape", 7, [CUBE, ints(0, -1)], weights=(1,)),
    Case("Shape", 7, [CUBE]),
    Case("Sum", 8, [CUBE, normal(4), normal(3, 1)]),
]


@pytest.mark.parametrize("case", CHANGED, ids=str)
def test_changed_form(case: Case) -> None:
    check_same_meaning(*case.model(), tolerance=TOLERANCE)


@pytest.mark.parametrize("case", UNCHANGED, ids=str)
def test_same_form(case: Case) -> None:
    check_same_meaning(*case.model(), tolerance=TOLERANCE)


def test_every_adapter_is_tested() -> None:
    tested = {case.operator for case in CHANGED}
    assert {operator for operator, _ in ADAPTERS} - tested == {"Scan"}


def test_every_changed_form_has_an_adapter() -> None:
    """An operator whose new form does not read as its old one, in ONNX's own tables, has an adapter."""
    lacking = [
        (new.name, new.since_version)
        for old, new in _neighbours()
        if not _reads_the_old_form(old, new) and (new.name, new.since_version) not in ADAPTERS
    ]
    assert not lacking


def _neighbours() -> list[tuple[defs.OpSchema, defs.OpSchema]]:
    """Every version of every standard operator, with the next one."""
    versions: dict[str, list[defs.OpSchema]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= CANONICAL_OPSET:
            versions.setdefault(schema.name, []).append(schema)
    pairs = []
    for schemas in versions.values():
        schemas.sort(key=lambda schema: schema.since_version)
        pairs += [p for p in zip(schemas, schemas[1:], strict=False) if p[1].since_version > OLDEST_OPSET]
    return pairs


def _reads_the_old_form(old: defs.OpSchema, new: defs.OpSchema) -> bool:
    """Old inputs stay and new ones are optional; old attributes stay, with their defaults; so do outputs."""
    single = defs.OpSchema.FormalParameterOption.Single
    if len(new.inputs) < len(old.inputs) or len(new.outputs) < len(old.outputs) or new.deprecated:
        return False
    if any(parameter.option == single for parameter in new.inputs[len(old.inputs) :]):
        return False
    default: Callable[[defs.OpSchema.Attribute], bytes] = lambda a: a.default_value.SerializeToString()  # noqa: E731
    return all(
        name in new.attributes and default(new.attributes[name]) == default(attribute)
        for name, attribute in old.attributes.items()
    )


def test_old_dropout_mask_keeps_its_type() -> None:
    graph = read_model(Case("Dropout", 7, [IMAGE], outputs=2).model()[0])
    assert [value.dtype for value in graph.outputs] == [DType.float32, DType.float32]


def test_training_is_refused() -> None:
    model, _ = Case("BatchNormalization", 9, [IMAGE, *CHANNELS], outputs=5).model()
    with pytest.raises(UnsupportedError, match="statistics of training"):
        read_model(model)


def test_scan_of_opset_8_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [helper.make_tensor_value_info("a", 1, [2])],
        [helper.make_tensor_value_info("b", 1, [2])],
    )
    node = helper.make_node("Scan", [], ["y"], body=body, num_scan_inputs=1)
    model, _ = one_node(node, [None, normal(1, 3, 2)], opset=8)
    with pytest.raises(UnsupportedError, match=r"Scan of opset 8.*export the model with opset 9"):
        read_model(model)


def test_an_operator_newer_than_the_model() -> None:
    model, _ = Case("Gelu", 13, [IMAGE]).model()
    with pytest.raises(ModelError, match="unknown operator Gelu.*opset 13, which does not have it"):
        read_model(model)


def test_an_operator_that_is_gone() -> None:
    model, _ = Case("Upsample", 11, [IMAGE, UP]).model()
    with pytest.raises(ModelError, match="Upsample is no longer part of opset 11"):
        read_model(model)
