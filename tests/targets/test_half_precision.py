"""`--precision float16`: half arithmetic on machines that have it, the C contract unchanged; refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.oracles import onnx_runtime
from graphopt.errors import UnsupportedError, UsageError
from graphopt.ir import Value
from graphopt.runtime.reference import run
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.emulated import EmulatedModule
from graphopt.targets.schedules.templates.winograd_kernel import LONGEST_TRANSFORMED
from graphopt.targets.schedules.templates.winograd_transform import Transform
from graphopt.verification import TOLERANCES, verify_bundle
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.layers import convolutions, depthwise, pools, products, transposed
from tests.targets.layers.base import conv, in_blocks
from tests.targets.test_bundle import Samples

RPI5 = pytest.param("rpi5", marks=runnable("rpi5"))
HALF_UNIT = float(np.finfo(np.float16).eps)
ROUNDINGS = {"features": 29, "probabilities": 29 + 11 + 122 + 18 + 10}
"""Of the tiny model, whose numbers are about 1: the products of each sum, and twice the rounded image."""


@pytest.fixture(scope="module")
def half_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("half") / "tiny.bundle"
    return graphopt.compile(tiny_model, target="rpi5", precision="float16", out=out)


@pytest.mark.parametrize("name", [RPI5])
def test_it_answers_nearly_as_the_model_does(
    name: str, half_bundle: Bundle, tiny_model: Path, tiny_samples: Samples
) -> None:
    module, oracle = EmulatedModule(half_bundle), onnx_runtime(tiny_model)
    for sample in tiny_samples:
        want, got = oracle(sample), module(sample)
        for output, roundings in ROUNDINGS.items():
            error = np.abs(got[output] - want[output]).max() / np.abs(want[output]).max()
            assert 0 < error <= roundings * HALF_UNIT


@pytest.mark.parametrize("name", [RPI5])
def test_verification_allows_what_the_precision_costs(
    name: str, half_bundle: Bundle, tiny_model: Path
) -> None:
    assert verify_bundle(tiny_model, half_bundle, samples=1).agrees
    assert not verify_bundle(tiny_model, half_bundle, samples=1, tolerance=TOLERANCES["float32"]).agrees


def test_inputs_outputs_and_the_exported_model_stay_as_they_are(half_bundle: Bundle) -> None:
    import onnx

    tensors = (*half_bundle.abi.inputs, *half_bundle.abi.outputs)
    assert {str(tensor.dtype) for tensor in tensors} == {"float32"}
    assert half_bundle.manifest["options"]["precision"] == "float16"
    assert half_bundle.report["summary"]["precision"] == "float16"
    assert half_bundle.optimized is not None
    weights = onnx.load(half_bundle.optimized).graph.initializer
    assert onnx.TensorProto.FLOAT16 not in {weight.data_type for weight in weights}


def test_weights_take_half_the_room(half_bundle: Bundle, compiled, tiny_model: Path) -> None:  # type: ignore[no-untyped-def]
    whole = compiled("rpi5").report["summary"]["weights_bytes"]
    assert half_bundle.report["summary"]["weights_bytes"] <= 0.75 * whole


def test_a_target_without_half_arithmetic_refuses(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"rpi4 has no arithmetic on float16 .*such as rpi5"):
        graphopt.compile(tiny_model, target="rpi4", precision="float16", out=tmp_path / "b")
    with pytest.raises(UsageError, match=r"no precision 'float61' \[did you mean float16\?\]"):
        graphopt.compile(tiny_model, target="rpi5", precision="float61", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_half_arithmetic_is_a_feature_of_the_target(tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text('base = "rpi4"\ncpu = "cortex-a55"\nfeatures = ["fullfp16"]\n')
    assert load_target(str(board)).computes_in_half and load_target("rpi5").computes_in_half
    assert not load_target("rpi4").computes_in_half and not load_target("x86-64-v4").computes_in_half


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    from bench.network import Network

    net = Network()
    scale = net.weight(np.float32(0.1))
    read = net.op("DequantizeLinear", net.op("QuantizeLinear", "input", scale), scale)
    model = net.model({"input": [1, 3]}, {net.op("Relu", read): [1, 3]}, "net")
    with pytest.raises(UnsupportedError, match="the model is quantised.*without --precision"):
        graphopt.compile(model, target="rpi5", precision="float16", out=tmp_path / "b")


class WholeNumbers(Draft):
    """Weights are -1, 0 or 1: sums of products are exact in float16."""

    def weight(self, *shape: int, positive: bool = False) -> Value:
        return self.const(self.random.integers(-1, 2, shape).astype(np.float32))


def long_sums(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 64, 5, 9), 24, (3, 3), pads=(1, 1, 1, 1))


def long_rows(g: Draft) -> Value:
    return g.op("MatMul", g.input(9, 300), g.weight(300, 40))


EXACT = (
    convolutions.odd_channels,
    convolutions.uneven_pads,
    convolutions.one_dimension,
    transposed.doubled,
    long_sums,
    depthwise.depthwise_strided,
    pools.max_pool_beyond_the_pads,
    pools.average_pool_with_some_pads,
    pools.global_pools,
    products.single_row,
    products.batched_with_residual,
    long_rows,
)


@pytest.mark.parametrize("name", [RPI5])
def test_sums_of_whole_numbers_are_exact(name: str, tmp_path: Path) -> None:
    draft = WholeNumbers()
    for build in EXACT:
        draft.graph.add_output(build(draft), build.__name__)
    inputs = {v.name: draft.random.integers(-2, 3, v.static_shape) for v in draft.graph.inputs}
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    want = run(draft.graph, inputs)
    out = tmp_path / "layers.bundle"
    bundle = graphopt.compile(draft.graph, target=name, precision="float16", winograd=False, out=out)
    sums = [layer for layer in bundle.report["layers"] if layer["macs"]]
    assert sums and all(layer["schedule"] != "generic" for layer in sums)
    for output, got in EmulatedModule(bundle)(inputs).items():
        assert np.abs(want[output]).max() < 1 / HALF_UNIT, "the case is not exact in float16"
        assert (np.abs(got - want[output]) <= HALF_UNIT / 2 * np.abs(want[output])).all(), output


@pytest.mark.parametrize("name", [RPI5])
@pytest.mark.parametrize("size", [1.0, 5000.0])
def test_transformed_convolutions_are_off_by_what_independent_roundings_make(
    size: float, name: str, tmp_path: Path
) -> None:
    """Numbers are up to four times their `size`; transformed as they are the larger ones would leave float16."""
    channels = 3 * LONGEST_TRANSFORMED
    draft = Draft()
    x = draft.input(1, channels, 6, 9)
    same = draft.const(np.eye(channels).reshape(channels, channels, 1, 1))
    weights = draft.const(draft.random.normal(size=(16, channels, 3, 3)) / 20)
    draft.output(draft.op("Conv", draft.op("Conv", x, same), weights, pads=(1, 1, 1, 1)))
    inputs = {x.name: (draft.random.normal(size=x.static_shape) * size).astype(np.float32)}
    (want,) = run(draft.graph, inputs).values()
    bundle = graphopt.compile(draft.graph, target=name, precision="float16", out=tmp_path / "net.bundle")
    assert any("winograd-convolution{outputs=4" in layer["schedule"] for layer in bundle.report["layers"])
    (got,) = EmulatedModule(bundle)(inputs).values()
    error = float(np.sqrt(np.square(got - want).mean() / np.square(want).mean()))
    expected = rounding_of_transformed(Transform(4), channels)
    assert expected / 4 <= error <= expected


def rounding_of_transformed(transform: Transform, channels: int) -> float:
    """Relative error, in the mean, where inputs and weights are independent numbers of one size.

    Each product is off by the roundings of its factors, twice the number of steps of a transform at most; each
    partial sum by one more. All are taken for half a unit.
    """
    steps = 2 * 6 + 2
    sums = LONGEST_TRANSFORMED / 2 + channels / LONGEST_TRANSFORMED
    sizes = np.square(transform.input).sum(axis=1) * np.square(transform.filter).sum(axis=1)
    gain = np.square(np.square(transform.output) @ sizes).mean() / 9
    return HALF_UNIT / 2 * float(np.sqrt(gain * (steps + sums)))
