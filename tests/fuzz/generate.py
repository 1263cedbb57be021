"""Random valid models: one operator after another on values that there are already.

An operator is a function that looks at a value, and adds nodes that read it or says that it does not fit. Most
attributes are drawn from what the operator allows for that shape, odd sizes and uneven pads included. Operators whose
results jump (Floor, comparisons) read inputs of the model alone: behind other arithmetic a rounding error of either
side would decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
LARGEST = 4096
"""Elements of a value."""

FLOAT = TensorProto.FLOAT

T = TypeVar("T")


@dataclass
class Builder:
    """A model in the making. `values` are floats by name, with their shapes."""

    random: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)
    count: int = 0

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.random.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, choices: list[T]) -> T:
        return choices[self.integer(0, len(choices) - 1)]

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def constant(self, array: np.ndarray) -> str:
        name = self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def weights(self, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant((self.random.normal(size=shape) / np.sqrt(fan)).astype(np.float32))

    def numbers(self, values: list[int]) -> str:
        return self.constant(np.asarray(values, np.int64))

    def add(self, op: str, inputs: list[str], results: int = 1, **attributes: object) -> list[str]:
        names = [self.name("v") for _ in range(results)]
        self.nodes.append(helper.make_node(op, inputs, names, name=self.name(op), **attributes))
        return names


Operator = Callable[[Builder, str, tuple[int, ...]], list[str] | None]
"""Names of the floats that it adds; None: it does not fit the value."""


def model(seed: int, *, most: int = 12) -> onnx.ModelProto:
    """A valid model of up to `most` operators whose outputs are all that nothing reads."""
    b = Builder(np.random.default_rng(seed))
    for _ in range(b.integer(1, 3)):
        shape = _shape(b)
        name = b.name("x")
        b.inputs[name] = b.values[name] = shape
    for _ in range(b.integer(2, most)):
        _grow(b)
    read = {name for node in b.nodes for name in node.input}
    ends = [name for name in b.values if name not in read and name not in b.inputs]
    return _finished(b, ends)


def _grow(b: Builder) -> None:
    """One more operator; its shape is ONNX's to infer."""
    for _ in range(20):
        name = b.pick(list(b.values)[-4:])
        before = len(b.nodes), len(b.constants)
        made = b.pick(OPERATORS)(b, name, b.values[name])
        if made is None:
            del b.nodes[before[0] :], b.constants[before[1] :]
            continue
        shapes = _inferred(b, made)
        if shapes is not None:
            b.values.update(shapes)
            return
        del b.nodes[before[0] :], b.constants[before[1] :]


def _inferred(b: Builder, names: list[str]) -> dict[str, tuple[int, ...]] | None:
    try:
        whole = onnx.shape_inference.infer_shapes(_finished(b, names), check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
        return None
    found = {}
    for value in whole.graph.output:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)
        if kind.elem_type != FLOAT or not all(shape) or np.prod(shape, dtype=int) > LARGEST:
            return None
        found[value.name] = shape
    return found


def _finished(b: Builder, ends: list[str]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in b.inputs.items()]
    outputs = [helper.make_tensor_value_info(name, FLOAT, b.values.get(name)) for name in ends]
    graph = helper.make_graph(b.nodes, "fuzz", inputs, outputs, b.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _shape(b: Builder) -> tuple[int, ...]:
    rank = b.pick([1, 2, 3, 3, 4, 4, 4])
    if rank == 4:
        return b.integer(1, 2), b.pick([1, 2, 3, 4, 6, 8, 16, 17]), b.integer(1, 9), b.integer(1, 9)
    return tuple(b.integer(1, 7) for _ in range(rank))


# --- element by element ---

SMOOTH = (
    "Abs Cos Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Mish Neg Relu Selu Sigmoid Sin Softplus Tanh"
)
JUMPING = "Ceil Floor Round Sign"


def unary(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    if x in b.inputs and b.chance(0.1):
        return b.add(b.pick(JUMPING.split()), [x])
    op = b.pick(SMOOTH.split())
    return b.add(op, b.add("Tanh", [x]) if op == "Exp" else [x])


def clip(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    low, high = sorted(b.random.normal(size=2).astype(np.float32))
    ends = [b.constant(np.asarray(low)) if b.chance(0.7) else "", b.constant(np.asarray(high))]
    return b.add("Clip", [x, *ends])


def binary(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    op = b.pick(["Add", "Sub", "Mul", "Max", "Min", "Div"])
    if op != "Div" and b.chance(0.5):
        return b.add(op, [x, b.pick(list(b.values))])
    dims = [d if b.chance(0.7) else 1 for d in shape][b.integer(0, len(shape)) :]
    other = b.random.uniform(0.5, 2, dims) * b.random.choice([-1, 1], dims)
    operands = [x, b.constant(np.asarray(other, np.float32))]
    return b.add(op, operands if op == "Div" or b.chance(0.7) else operands[::-1])


def where(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    source = b.pick(list(b.inputs))
    (test,) = b.add(b.pick(["Greater", "Less", "GreaterOrEqual"]), [source, b.constant(np.float32([0.1]))])
    return b.add("Where", [test, x, b.pick(list(b.values))])


def cast(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if x not in b.inputs:
        return None
    (integers,) = b.add("Cast", [x], to=b.pick([TensorProto.INT32, TensorProto.INT64]))
    return b.add("Cast", [integers], to=FLOAT)


# --- products ---


def matmul(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) < 2 and b.chance(0.5):
        return None
    return b.add("MatMul", [x, b.weights(shape[-1], b.integer(1, 18))])


def attention(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    """Softmax(x x^T) x."""
    if len(shape) < 2:
        return None
    turned = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    (other,) = b.add("Transpose", [x], perm=turned)
    (scores,) = b.add("MatMul", [x, other])
    scaled = b.add("Mul", [scores, b.constant(np.float32(shape[-1] ** -0.5))])
    (shares,) = b.add("Softmax", scaled, axis=-1)
    return b.add("MatMul", [shares, x])


def gemm(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) != 2:
        return None
    turned, width = b.integer(0, 1), b.integer(1, 18)
    weights = b.weights(*((width, shape[1]) if turned else (shape[1], width)))
    bias = [b.weights(*b.pick([[width], [1, width], [shape[0], 1], []]))] if b.chance(0.8) else []
    factors = {"alpha": 0.5, "beta": 2.0} if b.chance(0.2) else {}
    return b.add("Gemm", [x, weights, *bias], transB=turned, **factors)


def _window(b: Builder, shape: tuple[int, ...], *, dilated: bool = True) -> dict[str, list[int]]:
    axes = range(len(shape) - 2)
    found = {
        "kernel_shape": [b.integer(1, min(4, d + 1)) for d in shape[2:]],
        "strides": [b.pick([1, 1, 2, 3]) for _ in axes],
    }
    if dilated:
        found["dilations"] = [b.pick([1, 1, 1, 2]) for _ in axes]
    if b.chance(0.6):
        found["pads"] = [b.integer(0, found["kernel_shape"][axis] - 1) for axis in (*axes, *axes)]
    return found


def convolution(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if not 3 <= len(shape) <= 4:
        return None
    channels, window = shape[1], _window(b, shape)
    group = b.pick([g for g in (1, 1, 1, 2, 4, channels) if channels % g == 0])
    filters = group * b.integer(1, max(1, 20 // group))
    weights = b.weights(filters, channels // group, *window["kernel_shape"])
    return b.add(
        "Conv", [x, weights, *([b.weights(filters)] if b.chance(0.6) else [])], group=group, **window
    )


def transposed(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if not 3 <= len(shape) <= 4:
        return None
    window, group = _window(b, shape), b.pick([g for g in (1, 1, 2, shape[1]) if shape[1] % g == 0])
    weights = b.weights(shape[1], b.integer(1, 5), *window["kernel_shape"])
    return b.add("ConvTranspose", [x, weights], group=group, **window)


# --- windows and statistics ---


def pool(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if not 3 <= len(shape) <= 4:
        return None
    if b.chance(0.2):
        return b.add(b.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x])
    op, window = b.pick(["MaxPool", "AveragePool"]), _window(b, shape, dilated=False)
    extra = {"count_include_pad": b.integer(0, 1)} if op == "AveragePool" else {}
    return b.add(op, [x], ceil_mode=int(b.chance(0.2)), **window, **extra)


def normalization(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) < 3:
        return None
    channels = shape[1]
    scale, bias = b.weights(channels), b.weights(channels)
    if b.chance(0.6):
        mean, spread = b.weights(channels), b.constant(b.random.uniform(0.5, 2, channels).astype(np.float32))
        return b.add("BatchNormalization", [x, scale, bias, mean, spread])
    return b.add("InstanceNormalization", [x, scale, bias], epsilon=0.1)


def layer_norm(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    return b.add("LayerNormalization", [x, b.weights(shape[-1]), b.weights(shape[-1])], epsilon=0.1)


def softmax(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    return b.add(b.pick(["Softmax", "LogSoftmax"]), [x], axis=b.integer(-len(shape), len(shape) - 1))


def reduction(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    op = b.pick(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"])
    axes = [axis for axis in range(len(shape)) if b.chance(0.5)] or [len(shape) - 1]
    return b.add(op, [x, b.numbers(axes)], keepdims=b.integer(0, 1) if len(axes) < len(shape) else 1)


def running_sum(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    axis = b.constant(np.asarray(b.integer(0, len(shape) - 1), np.int64))
    return b.add("CumSum", [x, axis], exclusive=b.integer(0, 1), reverse=b.integer(0, 1))


# --- what moves elements ---


def transpose(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    return b.add("Transpose", [x], perm=[int(axis) for axis in b.random.permutation(len(shape))])


def reshape(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    way = b.integer(0, 3)
    if way == 0:
        return b.add("Flatten", [x], axis=b.integer(0, len(shape)))
    if way == 1:
        return b.add("Unsqueeze", [x, b.numbers([b.integer(0, len(shape))])])
    if way == 2 and 1 in shape:
        return b.add("Squeeze", [x, b.numbers([shape.index(1)])])
    at = b.integer(0, len(shape) - 1)
    divisors = [d for d in range(1, shape[at] + 1) if shape[at] % d == 0]
    inner = b.pick(divisors)
    return b.add("Reshape", [x, b.numbers([*shape[:at], shape[at] // inner, inner, *shape[at + 1 :]])])


def concatenation(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    same = [name for name, other in b.values.items() if len(other) == len(shape)]
    return b.add(
        "Concat", [x, b.pick(same), *([x] if b.chance(0.3) else [])], axis=b.integer(0, len(shape) - 1)
    )


def split(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    axis = b.integer(0, len(shape) - 1)
    if shape[axis] < 2:
        return None
    first = b.integer(1, shape[axis] - 1)
    return b.add("Split", [x, b.numbers([first, shape[axis] - first])], 2, axis=axis)


def cut(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    axis = b.integer(0, len(shape) - 1)
    step = b.pick([1, 1, 2, -1, -2])
    start, end = (
        (b.integer(0, shape[axis] - 1), shape[axis]) if step > 0 else (shape[axis] - 1, -shape[axis] - 1)
    )
    return b.add("Slice", [x, *(b.numbers([n]) for n in (start, end, axis, step))])


def pad(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    mode = b.pick(["constant", "constant", "reflect", "edge"])
    most = [min(2, d - 1) if mode == "reflect" else 2 for d in shape]
    pads = [b.integer(0, m) if b.chance(0.6) else 0 for m in (*most, *most)]
    value = [b.constant(np.float32(0.5))] if mode == "constant" and b.chance(0.5) else []
    return b.add("Pad", [x, b.numbers(pads), *value], mode=mode)


def gather(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    axis = b.integer(0, len(shape) - 1)
    numbers = b.random.integers(-shape[axis], shape[axis], b.pick([[3], [2, 2], [1]]))
    return b.add("Gather", [x, b.constant(numbers.astype(np.int64))], axis=axis)


def tile(b: Builder, x: str, shape: tuple[int, ...]) -> list[str]:
    if b.chance(0.5):
        return b.add("Tile", [x, b.numbers([b.pick([1, 1, 2]) for _ in shape])])
    return b.add("Expand", [x, b.numbers([2, *(1 for _ in shape)])])


def resize(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) != 4:
        return None
    mode = b.pick(["nearest", "linear"])
    mapping = b.pick(["asymmetric", "half_pixel", "align_corners"])
    # ONNX Runtime takes the rounded length of a row for align_corners, ONNX that before rounding.
    across = b.pick([1, 2] if mapping == "align_corners" else [1, 2, 0.5])
    scales = b.constant(np.float32([1, 1, b.pick([1, 2, 3]), across]))
    rounding = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return b.add("Resize", [x, "", scales], mode=mode, coordinate_transformation_mode=mapping, **rounding)


def shuffle(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) != 4:
        return None
    if shape[1] % 4 == 0:
        return b.add("DepthToSpace", [x], blocksize=2, mode=b.pick(["DCR", "CRD"]))
    if shape[2] % 2 == 0 and shape[3] % 2 == 0:
        return b.add("SpaceToDepth", [x], blocksize=2)
    return None


# --- recurrences ---


def recurrence(b: Builder, x: str, shape: tuple[int, ...]) -> list[str] | None:
    if len(shape) != 3 or shape[0] > 8:
        return None
    op, gates = b.pick([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    units, direction = b.integer(1, 9), b.pick(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    operands = [x, b.weights(ways, gates * units, shape[2]), b.weights(ways, gates * units, units)]
    if b.chance(0.6):
        operands.append(b.weights(ways, 2 * gates * units))
    extra = {"linear_before_reset": b.integer(0, 1)} if op == "GRU" else {}
    return b.add(op, operands, 2, hidden_size=units, direction=direction, **extra)


OPERATORS: list[Operator] = [
    *(unary, unary, binary, binary, convolution, convolution, matmul, clip, where, cast, attention, gemm),
    *(transposed, pool, normalization, layer_norm, softmax, reduction, running_sum, transpose, transpose),
    *(reshape, reshape, concatenation, split, cut, pad, gather, tile, resize, shuffle, recurrence),
]
