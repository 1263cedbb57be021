"""What reads floats in a quantised model: kinds, reasons, and what bytes would cost."""

from __future__ import annotations

import math

from graphopt.float_islands import float_islands
from graphopt.ir import Value
from graphopt.passes.quantization.islands import FOR_FLOATS, NO_DATA, NO_FORM, OF_ROWS
from graphopt.passes.quantization.layers import layers_of
from graphopt.passes.quantization.scheme import parse_scheme
from graphopt.quantization import quantize
from graphopt.report.quantization import report_data, summary_facts
from tests.passes.helpers import Build, Draft, made
from tests.passes.quantization.quantised import bounds_of
from tests.passes.rounding.test_round_weights import convolutions, samples_of, transformer


def normalised(draft: Draft) -> Value:
    """A normalisation that is spelt out, in front of a layer; a sine in front of another, a Softmax at the end."""
    x = draft.input(1, 6, 8)
    variance = draft.op("ReduceMean", draft.op("Mul", x, x), draft.ints(-1))
    layer = draft.op("MatMul", draft.op("Mul", x, draft.op("Reciprocal", variance)), draft.weight(8, 8))
    return draft.op("Softmax", draft.op("MatMul", draft.op("Sin", layer), draft.weight(8, 4)))


def reasons(build: Build, scheme: str = "int8") -> dict[str, str]:
    graph = made(build)
    bounds = bounds_of(graph, samples_of(graph, range(2)))
    found = float_islands(graph, layers_of(graph, parse_scheme(scheme)), bounds)
    assert all(island.sqnr is None for island in found), "there were no samples"
    return {f"{len(island.nodes)} {island.operator}": island.reason for island in found}


def test_kinds_and_reasons() -> None:
    assert reasons(transformer) == {"1 LayerNormalization": OF_ROWS, "2 Add": FOR_FLOATS}
    assert reasons(normalised) == {
        "1 Mul": NO_DATA,
        "1 ReduceMean": FOR_FLOATS,
        "1 Reciprocal": FOR_FLOATS,
        "1 Sin": NO_FORM,
        "1 Softmax": OF_ROWS,
    }
    assert not reasons(convolutions)
    assert not reasons(transformer, "weights-int8"), "all activations are floats there"


def test_what_bytes_would_cost_is_told() -> None:
    graph = made(transformer)
    report = quantize(graph, samples_of(graph, range(6)), methods="none").report
    told = summary_facts(report)["reads floats"]
    assert told[0].startswith(
        "LayerNormalization 'case': its operand is needed finer than in bytes; bytes there"
    )
    for entry, island in zip(report_data(report)["float_islands"], report.islands, strict=True):
        assert entry["nodes"] == list(island.nodes) and 20 < entry["sqnr_in_bytes_db"] < 60


def test_what_bytes_destroy_costs_all() -> None:
    graph = made(normalised)
    samples = samples_of(graph, range(2))
    bounds = {**bounds_of(graph, samples), "Mul.0": (-1e8, 1e8)}
    found = float_islands(graph, layers_of(graph, parse_scheme("int8")), bounds, samples)
    costs = {island.operator: island.sqnr for island in found}
    assert costs["ReduceMean"] is not None and costs["ReduceMean"] < 1
    assert costs["Softmax"] is not None and math.isfinite(costs["Softmax"]) and costs["Softmax"] > 20
