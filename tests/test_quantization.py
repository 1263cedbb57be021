"""`graphopt.quantize`: float models in, quantised models out, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import graphopt
from bench.tasks import samples
from graphopt.data import open_samples
from graphopt.errors import UsageError
from graphopt.ir import DType, Graph, Value
from graphopt.onnx_io.write import to_bytes
from tests.passes.helpers import Draft, made
from tests.passes.quantization.test_placement import attention, residual
from tests.zoo import zoo_model


def run(graph: Graph | bytes, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The first output, by ONNX Runtime without rewriting: its integer kernels for AVX2 saturate on the way."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = graph if isinstance(graph, bytes) else to_bytes(graph)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, sample)[0] for sample in inputs]).astype(np.float64)


def sqnr(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))


def draws(graph: Graph, count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(3)
    return [
        {v.name: random.normal(size=v.static_shape).astype(np.float32) for v in graph.inputs}
        for _ in range(count)
    ]


@pytest.mark.parametrize("build", [residual, attention])
def test_onnx_runtime_runs_the_result_and_so_do_we(build, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    graph = made(build)
    data = draws(graph, 32)
    result = graphopt.quantize(graph, data)
    assert result.report.share_of_macs == 1 and result.report.share_of_weights == 1
    float_answers, answers = run(graph, data), run(result.graph, data)
    assert sqnr(float_answers, answers) > 28
    module = graphopt.Module(graphopt.compile(result.graph, out=tmp_path / "m", name="small").path)
    ours = np.stack([next(iter(module(sample).values())) for sample in data])
    # A sum near a tie may round to the other side, a whole step of its layer.
    assert sqnr(answers, ours) > 45


MODELS = {
    "mlperf_resnet8_bn_op17": 24.4,
    "trn_cifar_mbv_op17": 31.7,
    "trn_mnist_vit_op17": 31.2,
    "trn_mnist_lstm_op17": 40.5,
}
"""The best of the peers in dB: calibrated on 128 samples, minima and maxima or better."""


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "peer"), MODELS.items())
def test_loses_less_than_the_best_peer(name: str, peer: float) -> None:
    graph = graphopt.load(zoo_model(name))
    specs = {v.name: (v.dtype.numpy, v.static_shape) for v in graph.inputs}
    calibration = samples(name, specs, split="calib", count=128)
    result = graphopt.quantize(graph, calibration.inputs)
    assert result.report.share_of_macs == 1 and result.report.share_of_weights == 1
    held_back = samples(name, specs, split="calib", count=300).inputs[128:]
    assert sqnr(run(graph, held_back), run(result.graph, held_back)) > peer


def dense(weights: np.ndarray) -> Graph:
    def build(g: Draft) -> Value:
        return g.op("MatMul", g.input(1, 4), g.const(weights))

    return made(build)


def test_a_model_of_zeros_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="all its weights are zero: 'c'"):
        graphopt.quantize(dense(np.zeros((4, 3))), draws(dense(np.ones((4, 3))), 2))


@pytest.mark.parametrize("scheme", ["weights-int8", "int8"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(scheme: str, number: float) -> None:
    """Before any sample runs: what the model makes of it would be blamed on the sample."""
    graph = dense(np.full((4, 3), number))
    with pytest.raises(UsageError, match="weights 'c': it holds numbers that are not finite"):
        graphopt.quantize(graph, draws(graph, 2), scheme=scheme)


def test_a_layer_of_zeros_is_told() -> None:
    def build(g: Draft) -> Value:
        x = g.input(1, 4)
        return g.op("Add", g.op("MatMul", x, g.const(np.zeros((4, 3)))), g.op("MatMul", x, g.weight(4, 3)))

    graph = made(build)
    result = graphopt.quantize(graph, scheme="weights-int8")
    assert any("zero" in note for note in result.report.notes) or len(result.report.layers) == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_iterator_is_refused_before_any_work(wrapped: bool) -> None:
    graph = made(residual)
    left = iter(draws(graph, 2))
    with pytest.raises(
        UsageError, match="read once, and several stages .*a list, or a function that returns"
    ):
        graphopt.quantize(graph, open_samples(left, graph) if wrapped else left)
    assert len(list(left)) == 2
    assert graphopt.quantize(graph, lambda: iter(draws(graph, 2))).report.share_of_macs == 1


@pytest.mark.parametrize("methods", ["default", "analytic-bias"])
def test_a_layer_has_one_name(methods: str) -> None:
    """Of a convolution and what was folded into it, for the report and for what fitting did alike."""

    def build(g: Draft) -> Value:
        x = g.op("Conv", g.input(1, 3, 6, 6), g.weight(4, 3, 3, 3))
        return g.op("BatchNormalization", x, *(g.const(np.full(4, n)) for n in (1, 2, 3, 4)))

    graph = made(build)
    result = graphopt.quantize(to_bytes(graph), draws(graph, 4), methods=methods)
    assert [effect.layer for effect in result.effects] == [layer.name for layer in result.report.layers]


def test_a_model_without_products_is_refused() -> None:
    graph = made(lambda g: g.op("Relu", g.input(1, 4)))
    with pytest.raises(UsageError, match="no layer to quantise"):
        graphopt.quantize(graph, draws(graph, 2))


def test_a_quantised_model_is_refused() -> None:
    graph = made(residual)
    result = graphopt.quantize(graph, draws(graph, 2))
    with pytest.raises(UsageError, match=r"node .* the model is quantised already .*compile"):
        graphopt.quantize(result.graph, draws(graph, 2))


@pytest.mark.parametrize("operator", ["MatMulInteger", "com.microsoft::QGemm"])
def test_integer_operators_alone_are_a_quantised_model(operator: str) -> None:
    def build(g: Draft) -> Value:
        x, weights = g.input(1, 4, dtype=DType.uint8), g.const(np.ones((4, 3)), np.int8)
        if operator == "MatMulInteger":
            return g.op("MatMulInteger", x, weights)
        scale = g.const(0.1)
        zeros = [g.const(0, kind) for kind in (np.uint8, np.int8)]
        domain, name = operator.split("::")
        return g.op(name, x, scale, zeros[0], weights, scale, zeros[1], domain=domain)

    with pytest.raises(UsageError, match="the model is quantised already"):
        graphopt.quantize(made(build), np.ones((2, 4), np.uint8))


def test_weights_too_small_for_any_scale_count_as_zeros() -> None:
    with pytest.raises(UsageError, match="all its weights are zero: 'c'"):
        graphopt.quantize(dense(np.full((4, 3), 1e-39)), draws(dense(np.ones((4, 3))), 2))


def test_samples_whose_products_overflow_are_refused_by_name() -> None:
    """Weights fitted to them would be no numbers."""
    graph = dense(np.ones((4, 3)))
    samples = [{name: 1e30 * x for name, x in sample.items()} for sample in draws(graph, 4)]
    with pytest.raises(UsageError, match="node '.*': it reads numbers up to .*e.30.*--methods none"):
        graphopt.quantize(graph, samples)


def test_activations_need_data() -> None:
    with pytest.raises(UsageError, match="scheme 'int8' needs data"):
        graphopt.quantize(made(residual))


def test_ranges_of_another_model_are_refused() -> None:
    first, second = made(residual), made(attention)
    ranges = graphopt.quantize(first, draws(first, 2)).ranges
    with pytest.raises(UsageError, match="ranges are of another model"):
        graphopt.quantize(second, ranges=ranges)


def dead(g: Draft) -> Value:
    """The first layer's bias is so low that nothing passes the Relu."""
    low = g.const([-1e3, -1e3])
    cut = g.op("Relu", g.op("Conv", g.input(1, 3, 4, 4), g.weight(2, 3, 1, 1), low))
    return g.op("Conv", cut, g.weight(2, 2, 1, 1))


def test_a_layer_that_is_never_alive_is_named() -> None:
    graph = made(dead)
    message = r"value 'Relu\.0': it has no range: it is 0 in all samples .*--allow-constant"
    with pytest.raises(UsageError, match=message):
        graphopt.quantize(graph, draws(graph, 2))
    allowed = graphopt.quantize(graph, draws(graph, 2), allow_constant=True)
    assert allowed.report.share_of_macs == 1
    assert graphopt.quantize(graph, draws(graph, 2), exclude=["Conv_1"]).report.share_of_macs < 1


def test_ranges_are_reused() -> None:
    graph = made(residual)
    once = graphopt.quantize(graph, draws(graph, 4))
    again = graphopt.quantize(graph, draws(graph, 4), ranges=once.ranges)
    assert to_bytes(once.graph) == to_bytes(again.graph)


def test_excluded_layers_are_told() -> None:
    graph = made(residual)
    result = graphopt.quantize(graph, draws(graph, 2), exclude=["Gemm", "Conv_*"])
    assert [layer.scheme is None for layer in result.report.layers] == [False, True, True, True]
    with pytest.raises(UsageError, match="no layer 'Gem'"):
        graphopt.quantize(graph, draws(graph, 2), exclude=["Gem"])


@pytest.mark.parametrize(
    "scheme", ["weights-int4", "weights-codebook", "weights-float16", "weights-bfloat16", "16x8"]
)
def test_every_scheme_can_be_written_and_run(scheme: str) -> None:
    graph = made(residual)
    data = draws(graph, 8)
    result = graphopt.quantize(graph, data, scheme=scheme)
    model = onnx.load_from_string(to_bytes(result.graph))
    onnx.checker.check_model(model, full_check=True)
    assert sqnr(run(graph, data), run(result.graph, data)) > 12


def test_a_bias_beyond_all_data_is_named() -> None:
    graph = made(residual)
    layer = next(node for node in graph.nodes if node.input(2) is not None)
    bias = layer.inputs[2].constant.copy()  # type: ignore[union-attr]
    assert not graphopt.quantize(graph, draws(graph, 4)).report.notes
    bias[2] = -1e30
    layer.set_input(2, graph.add_constant(bias, "offset"))
    (note,) = graphopt.quantize(graph, draws(graph, 4)).report.notes
    assert "bias 'offset" in note and "is -1e+30 in channel 2" in note
