"""The zoo's 8-bit models in fixed point: no float is left, kernels are exact, and no layer is more than a step off.

Each layer is held against ONNX Runtime's, which computes the file's QuantizeLinear and DequantizeLinear in floats, on
equal inputs: its operands are ONNX Runtime's own. Measured with onnxruntime 1.32 on 120 samples of each (20 of those
without data), the share of bytes that differ, by one step:

    mlperf_resnet8_int8      7.3e-6
    mlperf_vww_96_int8       0.8e-6
    mlperf_kws_int8          3.4e-6
    mlperf_ad01_int8         0

ResNet-8 has more for its last pool, a mean of 64 numbers, which lies at a tie in one of 64. It alone gives 20 of the
2,000 test images another answer, of 24 in all; 1,493 are right, 1,486 in ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.oracles import onnx_runtime
from bench.tasks import Samples, samples
from graphopt.ir import Graph, Value
from graphopt.onnx_io.write import to_bytes
from graphopt.passes.integers import BYTES
from graphopt.passes.requantize_fixed import left_in_floats
from graphopt.preparation import grouped_for, legalized
from graphopt.quantization import quantize
from graphopt.runtime.reference import evaluate_node, run
from graphopt.targets.device import Target, load_target
from graphopt.verification import Run, runner
from tests.targets.conftest import runnable
from tests.zoo import zoo_model

pytestmark = pytest.mark.zoo

MODELS = [f"mlperf_{name}_int8_qdq_op13" for name in ("resnet8", "vww_96", "kws", "ad01")]

EMULATED = [pytest.param(t, marks=runnable(t)) for t in ("rpi4", "rpi-armv7")]

LAYERS = 40
"""Samples that layers are compared on."""

MOST_DIFFERENT = 2e-5
"""Of all bytes."""

ANSWERS = 1000
MOST_FEWER = 2
"""Right answers in a thousand."""


def fixed(target: str) -> Target:
    return dataclasses.replace(load_target(target), requantization="fixed")


def inputs_of(graph: Graph, name: str, count: int) -> Samples:
    specs = {v.name: (v.dtype.numpy, v.static_shape) for v in graph.inputs}
    return samples(name, specs, split="test", count=count)


def check_exact(name: str, target: str, count: int, folder: Path) -> None:
    path = zoo_model(name)
    graph = legalized(graphopt.optimize(graphopt.load(path)), fixed_point=True)
    machine = fixed(target)
    assert not left_in_floats(graph) and not left_in_floats(grouped_for(graph, machine))
    compiled, _ = runner(graphopt.compile(path, target=machine, out=folder / "m"))
    data = inputs_of(graph, name, count).inputs
    assert data
    for inputs in data:
        for key, want in run(graph, inputs).items():
            np.testing.assert_array_equal(compiled(inputs)[key], want)


@pytest.mark.parametrize("name", MODELS)
def test_kernels_are_exact(name: str, tmp_path: Path) -> None:
    check_exact(name, "host", 20, tmp_path)


@pytest.mark.qemu
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("name", MODELS)
def test_kernels_are_exact_emulated(name: str, target: str, tmp_path: Path) -> None:
    check_exact(name, target, 2, tmp_path)


def all_bytes(graph: Graph) -> tuple[bytes, list[str]]:
    """The QDQ graph with every tensor of bytes that is computed as an output, and their names."""
    copy = graph.clone()
    made = [v for node in copy.nodes for v in node.outputs if v.type is not None and v.dtype in BYTES]
    for value in made:
        if not value.is_graph_output:
            copy.add_output(value)
    return to_bytes(copy), [v.name for v in made]


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_at_most_one_step_off(name: str) -> None:
    optimized = graphopt.optimize(graphopt.load(zoo_model(name)))
    graph = legalized(optimized, fixed_point=True)
    model, names = all_bytes(optimized)
    oracle = onnx_runtime(model)
    known = {v.name: v for node in graph.nodes for v in node.outputs}
    compared = [known[n] for n in names if n in known]
    assert len(compared) >= 10
    differ = total = 0
    for inputs in inputs_of(graph, name, LAYERS).inputs:
        want = oracle(inputs)
        environment: dict[Value, np.ndarray] = {v: inputs[v.name] for v in graph.inputs}
        for node in graph.nodes:
            operands = [None if v is None else environment.get(v, v.constant) for v in node.inputs]
            environment.update(zip(node.outputs, evaluate_node(node, operands), strict=True))
            if node.output in compared:
                expected = want[node.output.name]
                off = np.abs(environment[node.output].astype(int) - expected)
                assert off.max() <= 1, node.name
                differ, total = differ + int((off > 0).sum()), total + off.size
                environment[node.output] = expected
    assert differ <= MOST_DIFFERENT * total


@pytest.mark.parametrize("name", ["trn_digits_cnn_op17", "trn_cifar_resnets_op13", "trn_cifar_mbv_op17"])
def test_our_own_quantisation_leaves_floats_at_its_ends(name: str) -> None:
    path = zoo_model(name)
    original = graphopt.load(path)
    (value,) = original.inputs
    specs = {value.name: (value.dtype.numpy, value.static_shape)}
    data = samples(name, specs, split="calib", count=16).inputs
    quantised = quantize(path, np.concatenate([x[value.name] for x in data]), methods="none").graph
    graph = legalized(graphopt.optimize(quantised), fixed_point=True)
    first, *last = left_in_floats(graph)
    assert first.is_op("QuantizeLinear") and first.inputs[0] is graph.inputs[0]
    assert [node.op_type for node in last] == ["Cast", "Mul"] and last[-1].output is graph.outputs[0]


def answers(run: Run, data: Samples) -> np.ndarray:
    return np.array([int(next(iter(run(inputs).values())).argmax()) for inputs in data.inputs])


def test_as_many_answers_are_right(tmp_path: Path) -> None:
    path = zoo_model(MODELS[0])
    compiled, _ = runner(graphopt.compile(path, target=fixed("host"), out=tmp_path / "m"))
    data = inputs_of(graphopt.load(path), path.stem, 2 * ANSWERS)
    got, want = (int((answers(f, data) == data.labels).sum()) for f in (compiled, onnx_runtime(path)))
    assert want > ANSWERS and got >= want - 2 * MOST_FEWER


def test_answers_stay(tmp_path: Path) -> None:
    """Of a model without data here, on noise."""
    path = zoo_model("mlperf_kws_int8_qdq_op13")
    compiled, _ = runner(graphopt.compile(path, target=fixed("host"), out=tmp_path / "m"))
    random, (value,) = np.random.default_rng(6), graphopt.load(path).inputs
    drawn = random.integers(-128, 128, (ANSWERS, *value.static_shape)).astype(np.int8)
    data = Samples([{value.name: x} for x in drawn], None)
    got, want = (answers(f, data) for f in (compiled, onnx_runtime(path)))
    assert len(np.unique(want)) > 1 and (got != want).sum() <= MOST_FEWER
