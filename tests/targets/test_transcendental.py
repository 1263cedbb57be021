"""exp, tanh and erf of float32 in vector lanes: how far from the truth, and at the ends."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tvm import te, tirx
from tvm.s_tir import Schedule

import graphopt
from bench.network import Network
from graphopt.ir.fused import body_of, fuse_nodes
from graphopt.targets.device import load_target
from graphopt.targets.lower import lower_body
from graphopt.targets.transcendental import approximate, coarse_sigmoid
from tests.passes.helpers import Draft
from tests.targets.lower.kernels import Outputs, case, run_cases
from tests.targets.raw_kernels import Call, run_kernels

POINTS = 1 << 18
WORST_UNITS = 2.0
"""Units in the last place, as the module promises."""


def sweep(low: float, high: float) -> np.ndarray:
    """Points of every magnitude of both signs, and evenly spread ones."""
    sizes = np.geomspace(2.0**-149, high, POINTS // 4)
    return np.concatenate([np.linspace(low, high, POINTS), sizes, -sizes]).astype(np.float32)


ENDS = np.array(
    [np.inf, -np.inf, np.nan, 0.0, -0.0, 3.4e38, -3.4e38, 88.7, 88.73, -103.9, -104.1], np.float32
)
EXP_POINTS, TANH_POINTS, ERF_POINTS = sweep(-104.0, 88.7), sweep(-12.0, 12.0), sweep(-7.0, 7.0)

EXP_ENDS = np.array([np.inf, 0, np.nan, 1, 1, np.inf, 0, 3.3e38, np.inf, 1.4e-45, 0], np.float32)
TANH_ENDS = np.array([1, -1, np.nan, 0.0, -0.0, 1, -1, 1, 1, -1, -1], np.float32)
SIGMOID_ENDS = np.array([1, 0, np.nan, 0.5, 0.5, 1, 0, 1, 1, 0, 0], np.float32)

CASES = [
    case("Exp", EXP_POINTS),
    case("Tanh", TANH_POINTS),
    case("Exp", ENDS, expected=[EXP_ENDS]),
    case("Tanh", ENDS, expected=[TANH_ENDS]),
    case("Exp", EXP_POINTS.astype(np.float64)),
    case("Sigmoid", TANH_POINTS),
    case("Erf", ERF_POINTS, expected=[ERF_POINTS]),
    case("Erf", ENDS, expected=[TANH_ENDS]),
    case("Erf", ERF_POINTS.astype(np.float64), expected=[ERF_POINTS.astype(np.float64)]),
    case("Gelu", ERF_POINTS, expected=[ERF_POINTS]),
    case("Gelu", ERF_POINTS, expected=[ERF_POINTS], approximate="tanh"),
    case("Sigmoid", EXP_POINTS, expected=[EXP_POINTS]),
    case("Sigmoid", ENDS, expected=[SIGMOID_ENDS]),
    case("Gelu", np.float32([-5.8, -6, -100, -1e30] * 9), expected=[np.zeros(36, np.float32)]),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


def units(got: np.ndarray, true: np.ndarray) -> float:
    """The largest distance in units in the last place of the true result's float32."""
    spacing = np.spacing(np.maximum(np.abs(true), np.finfo(np.float32).tiny).astype(np.float32))
    return float((np.abs(got.astype(np.float64) - true) / spacing).max())


def test_exp_is_within_two_units(results: list[Outputs]) -> None:
    assert units(results[0][0], np.exp(EXP_POINTS.astype(np.float64))) <= WORST_UNITS


def test_tanh_is_within_two_units(results: list[Outputs]) -> None:
    assert units(results[1][0], np.tanh(TANH_POINTS.astype(np.float64))) <= WORST_UNITS


def test_erf_is_within_two_units(results: list[Outputs]) -> None:
    assert units(results[6][0], error_function(ERF_POINTS)) <= WORST_UNITS


def error_function(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64))


def test_gelu_is_within_a_four_millionth_of_its_operand(results: list[Outputs]) -> None:
    """Phi is off by 2.2e-7, as the module says; the product rounds once more."""
    limit = 2.2e-7 + 2.0**-24
    x = ERF_POINTS.astype(np.float64)
    true = x / 2 * (1 + error_function(x * math.sqrt(0.5)))
    assert (np.abs(results[9][0] - true) / np.maximum(np.abs(x), np.finfo(np.float32).tiny)).max() <= limit
    assert not results[13][0].any()


def test_gelu_by_tanh_keeps_its_digits(results: list[Outputs]) -> None:
    """x sigmoid(u): four roundings of u, each of which changes the result by up to u units; exp, and three more."""
    x = ERF_POINTS.astype(np.float64)
    slope = math.sqrt(8 / math.pi) * (np.abs(x) + 0.044715 * np.abs(x) ** 3)
    true = x / (1 + np.exp(-np.copysign(slope, x)))
    spacing = np.spacing(np.maximum(np.abs(true), np.finfo(np.float32).tiny).astype(np.float32))
    off = np.abs(results[10][0] - true) / spacing
    assert (off / (2 * WORST_UNITS + 3 + 4 * slope)).max() <= 1.0


def test_sigmoid_rounds_three_times_more(results: list[Outputs]) -> None:
    true = 1 / (1 + np.exp(-TANH_POINTS.astype(np.float64)))
    assert units(results[5][0], true) <= WORST_UNITS + 1.5


def test_sigmoid_does_not_end_before_the_normal_numbers(results: list[Outputs]) -> None:
    with np.errstate(over="ignore"):
        true = 1 / (1 + np.exp(-EXP_POINTS.astype(np.float64)))
    assert units(results[11][0], np.maximum(true, 1 / (1 + math.exp(87.25)))) <= WORST_UNITS + 1.5
    np.testing.assert_allclose(results[12][0], SIGMOID_ENDS, atol=2.0**-125)


def test_coarse_sigmoid_is_good_for_bytes(tmp_path: Path) -> None:
    """2^r is off by 1.6 roundings and by two more for its evaluation, x / ln 2 by 1.5; the sum and the quotient round.
    A share of it is that of e^-x in 1 + e^-x."""
    x = np.concatenate([TANH_POINTS, EXP_POINTS[np.abs(EXP_POINTS) < 87]])
    x = x[: len(x) // 16 * 16]
    operand = te.placeholder(x.shape, "float32", name="x")
    result = te.compute(x.shape, lambda i: coarse_sigmoid(operand[i]))
    schedule = Schedule(te.create_prim_func([operand, result]))
    (loop,) = schedule.get_loops(schedule.get_sblock("compute"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    call = Call(schedule.mod["main"], [x], x)
    got = run_kernels({"sigmoid": call}, load_target("host"), tmp_path)["sigmoid"].astype(np.float64)
    true = 1 / (1 + np.exp(-x.astype(np.float64)))
    units = (6 + 1.5 * np.abs(x)) * 2.0**-24
    assert (np.abs(got / true - 1) <= units).all()


@pytest.mark.parametrize(
    ("outputs", "coarse"), [(["q"], True), (["q", "product"], False), (["q", "gate"], False)]
)
def test_a_sigmoid_is_coarse_where_it_ends_in_a_byte(outputs: list[str], coarse: bool) -> None:
    draft = Draft()
    values = {"x": draft.input(4)}
    values["gate"] = draft.op("Sigmoid", values["x"])
    values["product"] = draft.op("Mul", values["x"], values["gate"])
    values["q"] = draft.op("QuantizeLinear", values["product"], draft.const(0.1), draft.const(3, np.uint8))
    draft.output(*(values[name] for name in outputs))
    body = body_of(fuse_nodes(draft.graph, list(draft.graph.nodes)))
    assert ("coarse_sigmoid" in lower_body(body).script()) == coarse


def test_ends(results: list[Outputs]) -> None:
    for (got,), want in ((results[2], EXP_ENDS), (results[3], TANH_ENDS), (results[7], TANH_ENDS)):
        np.testing.assert_allclose(got, want, rtol=0.02)
        np.testing.assert_array_equal(np.signbit(got[:-4]), np.signbit(want[:-4]))


def test_double_precision_is_left_to_the_library(results: list[Outputs]) -> None:
    np.testing.assert_allclose(results[4][0], np.exp(EXP_POINTS.astype(np.float64)), rtol=1e-15)
    np.testing.assert_allclose(results[8][0], error_function(ERF_POINTS), rtol=1e-15)


def test_functions_of_functions_stay_short() -> None:
    """Their size adds up; it must not multiply, neither here nor where TVM looks through names."""
    vector = tirx.decl_buffer((16,), "float32", "x")
    x = tirx.BufferLoad(vector, [tirx.Ramp(0, 1, 16)])
    sizes = []
    for _ in range(4):
        x = tirx.exp(x)
        sizes.append(len(str(approximate(tirx.BufferStore(vector, x, [tirx.Ramp(0, 1, 16)])))))
    steps = np.diff(sizes)
    assert steps.max() <= 1.2 * steps.min()


def test_functions_of_functions_compile(tmp_path: Path) -> None:
    net = Network()
    y = net.op("Softplus", net.op("Erf", net.op("Exp", net.op("Tanh", "input"))))
    model = net.model({"input": [4, 33]}, {y: [4, 33]}, "net")
    x = np.random.default_rng(0).normal(size=(4, 33)).astype(np.float32)
    (got,) = graphopt.Module(graphopt.compile(model, out=tmp_path / "b"))({"input": x}).values()
    true = np.log1p(np.exp(error_function(np.exp(np.tanh(x.astype(np.float64))))))
    np.testing.assert_allclose(got, true, rtol=1e-5)
