"""LSTM and GRU with quantised products: a Scan whose body says what a step does.

    x W^T + b        one product over all steps, in front
    Scan: h R^T      one product a step; the state h is carried as integers, quantised as it is made
          gates      floats, in registers

Where only products of wider integers read the states, each step keeps its state as floats for them, as it made it.

ONNX's own operators have no place for the scale of their state, and ONNX Runtime's DynamicQuantizeLSTM finds the ranges
of every step anew. Written out, each product is one of integers with known scales, and any run time gives the same
numbers. Source: ONNX, LSTM-22, GRU-22, Scan-24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphopt.ir import DType, Graph, Node, TensorType, Value
from graphopt.passes.quantization.insert import Activations, before
from graphopt.passes.quantization.operators import RECURRENT
from graphopt.passes.quantization.parameters import Parameters, for_weights, widened_for_bias
from graphopt.passes.quantization.placement import Bounds
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.passes.quantization.weights import in_fewer_bits
from graphopt.rewrite import Builder

X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)

BACKWARD = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}


def why_not_recurrent(node: Node, scheme: Scheme) -> str:
    """Why the products of an LSTM or a GRU stay floats; empty when they need not."""
    if scheme.activation_type is not None and (scheme.weights not in STORED or scheme.group):
        return "only integers with a scale for each row are there for its weights"
    if any(v is not None and v.constant is None for v in (node.input(W), node.input(R), node.input(B))):
        return "its weights are computed"
    if node.input(LENGTHS) is not None or node.input(PEEPHOLES) is not None:
        return "it has lengths of sequences, or peepholes"
    if any(node.attr(name) for name in ("activations", "clip", "input_forget", "layout")):
        return "it has activations, a clip or a layout of its own"
    if node.op_type == "GRU" and not node.int("linear_before_reset"):
        return "it resets its state before the product"
    x = node.inputs[X]
    return "" if x is not None and x.is_static else "its shape is not known"


def with_first_states(layers: Iterable[Node], bounds: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """`bounds` where those of every state include the one that is given to begin with."""
    widened = dict(bounds)
    for node in layers:
        first = node.input(INITIAL_H) if node.is_op(*RECURRENT) else None
        if first is not None and first.name in bounds and node.output.name in bounds:
            (low, high), (least, greatest) = bounds[node.output.name], bounds[first.name]
            widened[node.output.name] = (min(low, least), max(high, greatest))
    return widened


def quantise_recurrence(activations: Activations, node: Node, scheme: Scheme) -> dict[Value, Value]:
    """Write `node` as products of integers; returns what takes the place of each of its outputs.

    A scheme for weights alone leaves the node, and what it returns, as they are.
    """
    if scheme.activation_type is None:
        for index in (W, R):
            weights = node.inputs[index]
            assert weights is not None
            made = in_fewer_bits(before(node), node, weights, scheme)
            if weights.constant is not None:
                activations.originals[made] = weights.constant
            node.set_input(index, made)
        return {}
    return _Recurrence(activations, node, scheme).write()


@dataclass
class _Recurrence:
    activations: Activations
    node: Node
    scheme: Scheme

    @cached_property
    def dtype(self) -> DType:
        dtype = self.scheme.activation_type
        assert dtype is not None
        return dtype

    @cached_property
    def build(self) -> Builder:
        return before(self.node)

    @cached_property
    def state(self) -> Parameters:
        """Those of h."""
        return self.activations.parameters(self.node.output, self.dtype)

    @cached_property
    def state_constants(self) -> tuple[Value, Value]:
        return self.activations.constants_of(self.node.output, self.dtype)

    @cached_property
    def keeps_floats(self) -> bool:
        """Whether the states of all steps are kept as they are made: for wider integers than those of the state."""
        every, last = self.node.outputs[:1], self.node.outputs[1:2]
        is_free = not every[0].uses and not every[0].is_graph_output
        return self._is_for_wider(every) or (is_free and self._is_for_wider(last))

    def _is_for_wider(self, values: Sequence[Value]) -> bool:
        stored = [self.activations.placement.stored.get(value, set()) for value in values]
        return any(stored) and all(dtype.bits > self.dtype.bits for dtypes in stored for dtype in dtypes)

    def write(self) -> dict[Value, Value]:
        node, build = self.node, self.build
        source = node.inputs[X]
        assert source is not None
        parameters = self.activations.parameters(source, self.dtype)
        x = self.activations.dequantised(source, self.dtype)
        results = [
            self._direction(number, backward, x, parameters)
            for number, backward in enumerate(BACKWARD[node.str("direction", "forward")])
        ]
        every, last, cells = zip(*results, strict=True)
        if self.keeps_floats and self._is_for_wider(node.outputs[1:2]):
            last = tuple(
                build.op(
                    "Gather", kept, build.const(np.int64(0 if backward else kept.static_shape[0] - 1)), axis=0
                )
                for kept, backward in zip(every, BACKWARD[node.str("direction", "forward")], strict=True)
            )
        made = {}
        for old, parts, axis in zip(node.outputs, (every, last), (1, 0), strict=False):
            made[old] = joined = self._joined(parts, axis)
            if joined.dtype is self.dtype:
                made[old] = self._state_floats(build, joined)
                self.activations.know(old, self.dtype, joined, made[old])
        if len(node.outputs) > 2:
            made[node.outputs[2]] = self._joined(cells, 0)
        return made

    def _joined(self, parts: tuple[Value, ...], axis: int) -> Value:
        """The directions along an axis of their own."""
        place = self.build.shape((axis,), "axes")
        rows = [self.build.op("Unsqueeze", part, place) for part in parts]
        return rows[0] if len(rows) == 1 else self.build.op("Concat", *rows, axis=axis)

    def _direction(
        self, number: int, backward: int, x: Value, source: Parameters
    ) -> tuple[Value, Value, Value]:
        """All states as they are kept, the last one as integers, and the last cell (of a GRU: the state again)."""
        node, build = self.node, self.build
        ahead, behind = self._biases(number)
        inputs, input_bias = self._weights(build, W, number, ahead, source)
        projected = build.op("Add", build.op("MatMul", x, inputs), input_bias)
        body = Graph(f"{node.name}.step", opset=build.graph.opset, parent=build.graph)
        step = Builder(body, None, build.origin)
        states = [self._first_state(number)]
        carried = [body.add_input("h", states[0].type, unique=True)]
        if node.op_type == "LSTM":
            states.append(self._first_cell(number))
            carried.append(body.add_input("c", states[1].type, unique=True))
        assert projected.type is not None
        row = TensorType(projected.dtype, projected.static_shape[1:])
        for value in self._step(step, carried, body.add_input("x", row, unique=True), number, behind):
            body.add_output(value)
        made = build.ops(
            "Scan",
            *states,
            projected,
            outputs=len(states) + 1,
            name=node.name,
            body=body,
            num_scan_inputs=1,
            scan_input_directions=(backward,),
            scan_output_directions=(backward,),
        )
        return made[-1], made[0], made[-2]

    def _step(
        self, build: Builder, carried: list[Value], x: Value, number: int, bias: np.ndarray | None
    ) -> list[Value]:
        """The next state as integers, the next cell where there is one, and the state to be kept."""
        h = self._state_floats(build, carried[0])
        weights, recurrent_bias = self._weights(build, R, number, bias, self.state)
        product = build.op("MatMul", h, weights)
        if bias is not None:
            product = build.op("Add", product, recurrent_bias)
        if self.node.op_type == "LSTM":
            made, *cell = _lstm(build, x, product, carried[1])
        else:
            made, *cell = _gru(build, x, product, h)
        integers = build.op("QuantizeLinear", made, *self.state_constants)
        return [integers, *cell, build.op("Identity", made if self.keeps_floats else integers)]

    def _biases(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """What is added to the product with the input, and to that with the state. A GRU needs both."""
        value = self.node.input(B)
        columns = self.node.inputs[R].static_shape[1]  # type: ignore[union-attr]
        data = np.zeros(2 * columns, np.float32) if value is None else value.constant[number]  # type: ignore[index]
        ahead, behind = data[:columns], data[columns:]
        return (ahead + behind, None) if self.node.op_type == "LSTM" else (ahead, behind)

    def _weights(
        self, build: Builder, index: int, number: int, bias: np.ndarray | None, source: Parameters
    ) -> tuple[Value, Value]:
        """The weights of one product, inputs by outputs, and its bias in units of its sums."""
        value = self.node.inputs[index]
        assert value is not None and value.constant is not None
        data = np.ascontiguousarray(value.constant[number].T)
        dtype, where = STORED[self.scheme.weights], f"weights '{value.name}'"
        parameters = for_weights(data, dtype, self.scheme.weight_bits, 1, where=where)
        numbers = np.zeros(data.shape[1], np.float32) if bias is None else bias
        parameters = widened_for_bias(parameters, source.scale, numbers)
        weights = self.activations.constant(build, data, parameters, value.name, keep=self.build)
        if bias is None:
            return weights, weights
        scale = np.asarray(source.scale * parameters.scale)
        units = Parameters(scale, np.zeros(scale.shape, np.int32), DType.int32, DType.int32.bits, 0)
        added = self.activations.constant(build, numbers, units, f"{value.name}.bias", keep=self.build)
        return weights, added

    def _state_floats(self, build: Builder, integers: Value) -> Value:
        return build.op("DequantizeLinear", integers, *self.state_constants)

    def _first_state(self, number: int) -> Value:
        value = self.node.input(INITIAL_H)
        first = self._first(value, number)
        if first.constant is not None:
            return self.activations.integer_constant(first.constant, self.state, "h")
        return self.build.op("QuantizeLinear", first, *self.state_constants)

    def _first_cell(self, number: int) -> Value:
        return self._first(self.node.input(INITIAL_C), number)

    def _first(self, value: Value | None, number: int) -> Value:
        """The row of a direction; zeros where nothing is given."""
        hidden = self.node.inputs[R].static_shape[2]  # type: ignore[union-attr]
        batch = self.node.inputs[X].static_shape[1]  # type: ignore[union-attr]
        if value is None:
            return self.build.const(np.zeros((batch, hidden), np.float32), name="zeros")
        if value.constant is not None:
            return self.build.const(value.constant[number], name=value.name)
        return self.build.op("Gather", value, self.build.const(np.int64(number)), axis=0)


def _lstm(build: Builder, x: Value, product: Value, cell: Value) -> tuple[Value, Value]:
    """Gates in the order input, output, forget, candidate."""
    enter, leave, forget, candidate = _split(build, build.op("Add", x, product), 4)
    kept = build.op("Mul", build.op("Sigmoid", forget), cell)
    added = build.op("Mul", build.op("Sigmoid", enter), build.op("Tanh", candidate))
    new = build.op("Add", kept, added)
    return build.op("Mul", build.op("Sigmoid", leave), build.op("Tanh", new)), new


def _gru(build: Builder, x: Value, product: Value, h: Value) -> tuple[Value]:
    """Gates in the order update, reset, candidate; the reset applies to the product with the state."""
    (x_update, x_reset, x_new), (update, reset, new) = _split(build, x, 3), _split(build, product, 3)
    z = build.op("Sigmoid", build.op("Add", x_update, update))
    r = build.op("Sigmoid", build.op("Add", x_reset, reset))
    candidate = build.op("Tanh", build.op("Add", x_new, build.op("Mul", r, new)))
    difference = build.op("Sub", h, candidate)
    return (build.op("Add", candidate, build.op("Mul", z, difference)),)


def _split(build: Builder, value: Value, parts: int) -> tuple[Value, ...]:
    size = value.static_shape[-1] // parts
    return build.ops("Split", value, build.shape((size,) * parts, "split"), outputs=parts, axis=-1)
