"""How much the states of a recurrence move when a weight of it does: second moments for each gate's row.

    J = sum over steps of g x^T          g = d(v . all states) / d(the row's sum), v random signs
    H = E[J^T J]

The error of a row that is rounded goes through gates, some of them shut, and comes back with the next state. Gradients
through all steps of the Scan know both; with random signs on every state, the mean of their squares is what all states
change by (Gauss-Newton). Rounding to integers is taken for the identity. Source: Hutchinson 1990, the random signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.runtime.stacked import Evaluate, Operand, Operands, evaluate, scan
from graphopt.runtime.twofold import Originals, Visit, float_evaluator

PROBES = 8
"""Vectors of random signs, at most."""

WORK = 5e10
"""Multiplications for all second moments of a product, at most."""

NUMBERS = 1 << 25
"""In all second moments of a product, and in what is kept of all steps, at most."""

FEWEST = 16
"""Samples, at least."""

MADE_OF = frozenset("Add DequantizeLinear Identity MatMul Mul QuantizeLinear Sigmoid Split Sub Tanh".split())

Gradients = dict[Value, np.ndarray]


@dataclass(frozen=True)
class Unrolled:
    """What the nodes of a Scan read and made on a stack of samples, step after step."""

    body: Graph
    states: int
    steps: list[list[tuple[Node, Operands, list[Operand]]]]

    @staticmethod
    def of(node: Node, operands: Operands, environment: Mapping[Value, Operand], each: Evaluate) -> Unrolled:
        body = node.attr("body")
        assert isinstance(body, Graph)
        start, steps = next(iter(body.nodes)), list[list[tuple[Node, Operands, list[Operand]]]]()

        def kept(inner: Node, read: Operands, around: Mapping[Value, Operand]) -> list[Operand]:
            if inner is start:
                steps.append([])
            made = each(inner, read, around)
            steps[-1].append((inner, read, made))
            return made

        scan(node, operands, environment, kept)
        return Unrolled(body, len(node.inputs) - 1, steps)

    def gradients(self, of_states: Sequence[np.ndarray]) -> list[Gradients]:
        """In each step the gradients of the values of the body, for those of the states that the steps keep."""
        found: list[Gradients] = []
        carried: list[np.ndarray | None] = [None] * self.states
        for step, of_state in zip(reversed(self.steps), reversed(of_states), strict=True):
            known: Gradients = {}
            for value, gradient in zip(list(self.body.outputs), [*carried, of_state], strict=True):
                _add(known, value, gradient)
            for node, operands, results in reversed(step):
                if any(value in known for value in node.outputs):
                    _pull(node, operands, results, known)
            carried = [known.get(value) for value in self.body.inputs[: self.states]]
            found.append(known)
        return found[::-1]

    def read_by(self, node: Node) -> list[np.ndarray | None]:
        """What `node` multiplies in each step; None where all samples have the same."""
        read = [operands[0] for step in self.steps for inner, operands, _ in step if inner is node]
        return [o.data if o is not None and o.is_stack else None for o in read]

    def second_moments(self, sums: Value, read: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """H (rows, k, k) of the product that makes `sums` of what it reads in each step; None for too much work."""
        steps = [number for number, rows in enumerate(read) if rows is not None]
        x = np.stack([_flat(rows) for rows in read if rows is not None], 1)
        samples, _, size = x.shape
        work = samples * sums.static_shape[-1] * size * (size + len(steps))
        if work > WORK or sums.static_shape[-1] * size * size > NUMBERS:
            return None
        random, probes, total = np.random.default_rng(0), min(PROBES, int(WORK // work)), 0.0
        shape = next(results[0].data.shape for node, _, results in self.steps[-1] if self._keeps(node))
        for _ in range(probes):
            signs = [random.choice(np.array([-1, 1], np.float32), shape) for _ in self.steps]
            known = self.gradients(signs)
            slopes = np.stack([_flat(known[number][sums]) for number in steps], -1)
            moved = (slopes @ x).transpose(1, 0, 2)
            total = total + (moved.transpose(0, 2, 1) @ moved).astype(np.float64)
        return np.asarray(total) / (samples * probes)

    def _keeps(self, node: Node) -> bool:
        return self.body.outputs[-1] in node.outputs


def of_state_products(visit: Visit) -> dict[Node, np.ndarray]:
    """The second moments for the products inside of a Scan that is about to run."""
    count = _samples(visit.node, visit.quantised)
    if not count:
        return {}
    unrolled = Unrolled.of(
        visit.node, _first(visit.quantised, count), _fewer(visit.environment, count), evaluate
    )
    found = {}
    for node in unrolled.body.nodes:
        if node.is_op("MatMul"):
            read = unrolled.read_by(node)
            moments = unrolled.second_moments(node.output, read) if any(r is not None for r in read) else None
            if moments is not None:
                found[node] = moments
    return found


def of_input_product(visit: Visit, originals: Originals) -> np.ndarray | None:
    """The second moments for the product over all steps in front of a Scan; None for any other product."""
    sums, operand = visit.results[0], visit.quantised[0]
    ahead = _scan_behind(visit.node)
    if ahead is None or operand is None or not (sums.is_stack and operand.is_stack):
        return None
    node, bias = ahead
    added = sums.data if bias is None else sums.data + _float_constant(bias, originals)
    firsts = [
        Operand(_float_constant(value, originals), False) for value in node.inputs[:-1] if value is not None
    ]
    count = _samples(node, [*firsts, sums])
    if not count:
        return None
    projected = Operand(added.astype(np.float32), True)
    unrolled = Unrolled.of(
        node,
        _first([*firsts, projected], count),
        _fewer(visit.environment, count),
        float_evaluator(originals),
    )
    backward = (node.ints("scan_input_directions", (0,)) or (0,))[0]
    rows = [operand.data[:count, number] for number in range(len(unrolled.steps))]
    return unrolled.second_moments(unrolled.body.inputs[-1], rows[::-1] if backward else rows)


def _scan_behind(node: Node) -> tuple[Node, Value | None] | None:
    """The recurrence that alone reads a product, and what is added to that on the way."""
    bias = None
    user = node.output.users[0] if len(node.output.users) == 1 else None
    value = node.output
    if user is not None and user.is_op("Add"):
        (bias,) = [other for other in user.inputs if other is not value] or [None]
        value = user.output
        user = value.users[0] if len(value.users) == 1 else None
    if user is None or not user.is_op("Scan") or user.inputs[-1] is not value:
        return None
    return user, bias


def _samples(node: Node, operands: Operands) -> int:
    """How many samples are unrolled; 0 for a body that gradients are not known of, or one that is too large."""
    body = node.attr("body")
    known = isinstance(body, Graph) and len(body) and node.int("num_scan_inputs") == 1
    if (
        not known
        or len(body.outputs) != len(node.inputs)
        or operands[-1] is None
        or not operands[-1].is_stack
    ):
        return 0
    if any(node.ints("scan_input_axes", ()) or ()) or not all(inner.is_op(*MADE_OF) for inner in body.nodes):
        return 0
    values = [value for inner in body.nodes if not inner.is_op("DequantizeLinear") for value in inner.outputs]
    if not all(value.is_static for value in values):
        return 0
    a_step = sum(int(np.prod(value.static_shape)) for value in values)
    rows = operands[-1].data
    count = min(len(rows), NUMBERS // max(1, a_step * rows.shape[1]))
    return count if count >= FEWEST else 0


def _first(operands: Operands, count: int) -> list[Operand | None]:
    return [o if o is None or not o.is_stack else Operand(o.data[:count], True) for o in operands]


def _fewer(environment: Mapping[Value, Operand], count: int) -> dict[Value, Operand]:
    return {v: Operand(o.data[:count], True) if o.is_stack else o for v, o in environment.items()}


def _float_constant(value: Value, originals: Originals) -> np.ndarray:
    """The floats of a constant; zeros for what is computed, as only a first state is."""
    if value in originals:
        return originals[value]
    return np.zeros(value.static_shape, np.float32) if value.constant is None else value.constant


def _flat(rows: np.ndarray) -> np.ndarray:
    """Samples and the batch within them as one axis."""
    return rows.reshape(-1, rows.shape[-1])


def _add(known: Gradients, value: Value | None, gradient: np.ndarray | None) -> None:
    if value is not None and gradient is not None:
        known[value] = known[value] + gradient if value in known else gradient


def _pull(node: Node, operands: Operands, results: list[Operand], known: Gradients) -> None:
    """Add to the gradients of what `node` reads, from those of what it made."""
    data = [None if o is None else o.data for o in operands]
    first, second = node.input(0), node.input(1)
    if node.is_op("Split"):
        parts = [
            known.get(value, np.zeros_like(result.data))
            for value, result in zip(node.outputs, results, strict=True)
        ]
        _add(known, first, np.concatenate(parts, -1))
        return
    gradient, made = known[node.output], results[0].data
    if node.is_op("Add", "Sub"):
        _add(known, first, gradient)
        _add(known, second, gradient if node.is_op("Add") else -gradient)
    elif node.is_op("Mul"):
        _add(known, first, gradient * data[1])
        _add(known, second, gradient * data[0])
    elif node.is_op("MatMul"):
        assert data[1] is not None
        _add(known, first, gradient @ data[1].T)
    elif node.is_op("Sigmoid"):
        _add(known, first, gradient * made * (1 - made))
    elif node.is_op("Tanh"):
        _add(known, first, gradient * (1 - made * made))
    else:  # Identity, and what rounds or says what integers stand for
        _add(known, first, gradient)
