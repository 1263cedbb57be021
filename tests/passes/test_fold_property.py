"""Folding on layers of every form: the outputs stay what they were.

Scales lie in [0.5, 2], so that neither folding nor the original loses digits by cancellation. A layer here sums at
most 4 * 3 * 3 products; with two scales and two shifts around it each output collects fewer than 64 roundings of at
most one unit in the last place of the largest partial sum, before and after. The partial sums are bounded by the sum
of the magnitudes, which the test computes with the magnitudes of all operands.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import DType, Graph, Origin, TensorType, Value, verify
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.rewrite import Builder
from graphopt.runtime.reference import run

UNITS = 64 * float(np.finfo(np.float32).eps)


class Sketch:
    """A graph whose numbers are drawn by seed; with `magnitudes`, all of them are positive."""

    def __init__(self, seed: int, magnitudes: bool) -> None:
        self.graph = Graph("sketch", opset=24)
        self.build = Builder(self.graph, None, Origin("", ("sketch",)))
        self.random = np.random.default_rng(seed)
        self.magnitudes = magnitudes

    def weight(self, *shape: int) -> Value:
        data = self.random.normal(size=shape).astype(np.float32)
        return self.build.const(np.abs(data) if self.magnitudes else data, name="w")

    def factor(self, *shape: int) -> Value:
        """Between 1/2 and 2, so that it can be divided by."""
        return self.build.const(np.exp2(self.random.uniform(-1, 1, shape)).astype(np.float32), name="s")


layers = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]),
        "groups": st.sampled_from([1, 2, 4]),
        "kernel": st.integers(1, 3),
        "pad": st.integers(0, 1),
        "stride": st.integers(1, 2),
        "bias": st.booleans(),
        "trans": st.integers(0, 1),
        "alpha": st.sampled_from([1.0, 0.5, 2.0]),
    }
)
affines = st.lists(st.sampled_from(["Mul", "Div", "Add", "Sub", "BatchNormalization"]), max_size=2)


def layer(sketch: Sketch, x: Value, form: dict) -> Value:
    """4 channels in, 4 out."""
    if form["kind"] == "MatMul":
        return sketch.build.op("MatMul", x, sketch.weight(4, 4))
    if form["kind"] == "Gemm":
        bias = [sketch.weight(4)] if form["bias"] else []
        attributes = {"transB": form["trans"], "alpha": form["alpha"], "beta": form["alpha"]}
        return sketch.build.op("Gemm", x, sketch.weight(4, 4), *bias, **attributes)
    window = (form["kernel"],) * 2
    attributes = {"group": form["groups"], "strides": (form["stride"],) * 2}
    if form["kernel"] > 1:
        attributes["pads"] = (form["pad"], 0, 0, form["pad"])
    operands = [sketch.weight(4, 4 // form["groups"], *window)] + ([sketch.weight(4)] if form["bias"] else [])
    return sketch.build.op(form["kind"], x, *operands, **attributes)


def affine(sketch: Sketch, x: Value, op_type: str) -> Value:
    """One number for each of 4 channels; subtraction adds up in the graph of magnitudes."""
    shape = (4,) if x.rank == 2 else (4, 1, 1)
    if op_type == "BatchNormalization":
        parts = (sketch.factor(4), sketch.weight(4), sketch.weight(4), sketch.factor(4))
        if not sketch.magnitudes:
            return sketch.build.op(op_type, x, *parts)
        gamma, beta, mean, var = parts
        spread = sketch.build.op("Div", gamma, sketch.build.op("Sqrt", var))
        spread, beta, mean = (
            sketch.build.op("Reshape", p, sketch.build.shape(shape)) for p in (spread, beta, mean)
        )
        moved = sketch.build.op("Mul", sketch.build.op("Add", x, mean), spread)
        return sketch.build.op("Add", moved, beta)
    if op_type in ("Mul", "Div"):
        return sketch.build.op(op_type, x, sketch.factor(*shape))
    return sketch.build.op("Add" if sketch.magnitudes else op_type, x, sketch.weight(*shape))


def sketched(seed: int, before: list[str], form: dict, after: list[str], magnitudes: bool) -> Graph:
    sketch = Sketch(seed, magnitudes)
    dense = form["kind"] in ("Gemm", "MatMul")
    shape = (3, 4) if dense else (1, 4, 4, 4)
    y = sketch.graph.add_input("x", TensorType(DType.float32, shape))
    for op_type in before:
        y = affine(sketch, y, op_type)
    y = layer(sketch, y, form)
    for op_type in after:
        y = affine(sketch, y, op_type)
    sketch.graph.add_output(y, "y")
    return sketch.graph


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**16), affines, layers, affines)
def test_outputs_stay(seed: int, before: list[str], form: dict, after: list[str]) -> None:
    graph = sketched(seed, before, form, after, magnitudes=False)
    bound = sketched(seed, before, form, after, magnitudes=True)
    x = np.random.default_rng(seed).normal(size=graph.inputs[0].static_shape).astype(np.float32)
    want, scale = run(graph, {"x": x})["y"], run(bound, {"x": np.abs(x)})["y"]
    parse_pipeline("fold-batchnorm,normalize-matmul,fold-affine", catalog()).run(graph)
    verify(graph)
    assert (np.abs(run(graph, {"x": x})["y"] - want) <= UNITS * scale).all()
    kinds = [node.op_type for node in graph.nodes]
    assert "BatchNormalization" not in kinds
    assert kinds[-1] in ("Conv", "ConvTranspose", "Gemm", "MatMul")  # what followed the layer is in it
