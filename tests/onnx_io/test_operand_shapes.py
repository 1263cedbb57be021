"""Operands that do not fit each other are refused where ONNX's inference lets them pass."""

from __future__ import annotations

import pytest
from onnx import parser

from graphopt.errors import ModelError
from graphopt.onnx_io.operand_shapes import check_operand_shapes
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.wanted_shapes import RULES

MISFITS = {
    "bias": ("Conv", "float[1,3,8,8] x, float[4,3,3,3] w, float[5] b", "(x, w, b)", "'b'", "[5]", "[4]"),
    "channels": (
        "Conv",
        "float[1,3,8,8] x, float[4,2,3,3] w",
        "(x, w)",
        "'x'",
        "[1, 3, 8, 8]",
        "[?, 2, ?, ?]",
    ),
    "groups": (
        "Conv",
        "float[1,4,8,8] x, float[3,2,3,3] w",
        "<group = 2> (x, w)",
        "'w'",
        "[3, 2, 3, 3]",
        "[4, ?, ?, ?]",
    ),
    "kernel": (
        "Conv",
        "float[1,3,8,8] x, float[4,3,3,3] w",
        "<kernel_shape = [5, 5]> (x, w)",
        "'w'",
        "[4, 3, 3, 3]",
        "[?, ?, 5, 5]",
    ),
    "transposed": (
        "ConvTranspose",
        "float[1,4,5,5] x, float[4,3,2,2] w, float[3] b",
        "<group = 2> (x, w, b)",
        "'b'",
        "[3]",
        "[6]",
    ),
    "offsets": (
        "DeformConv",
        "float[1,1,4,4] x, float[1,1,2,2] w, float[1,8,3,2] o",
        "(x, w, o)",
        "'o'",
        "[1, 8, 3, 2]",
        "[1, 8, 3, 3]",
    ),
    "quantised bias": (
        "QLinearConv",
        "uint8[1,3,8,8] x, float s, uint8 z, uint8[4,3,3,3] w, int32[5] b",
        "(x, s, z, w, s, z, s, z, b)",
        "'b'",
        "[5]",
        "[4]",
    ),
    "integer kernel": (
        "ConvInteger",
        "uint8[1,3,8,8] x, uint8[4,2,3,3] w",
        "(x, w)",
        "'x'",
        "[1, 3, 8, 8]",
        "[?, 2, ?, ?]",
    ),
    "addend": ("Gemm", "float[2,3] x, float[3,4] w, float[3] c", "(x, w, c)", "'c'", "[3]", "[4]"),
    "slope": ("PRelu", "float[2,3] x, float[2] s", "(x, s)", "'s'", "[2]", "[3]"),
    "layer's scale": ("LayerNormalization", "float[2,3] x, float[4] s", "(x, s)", "'s'", "[4]", "[3]"),
    "root's scale": ("RMSNormalization", "float[2,3] x, float[4] s", "(x, s)", "'s'", "[4]", "[3]"),
    "instance's scale": (
        "InstanceNormalization",
        "float[1,3,4] x, float[2] s, float[3] b",
        "(x, s, b)",
        "'s'",
        "[2]",
        "[3]",
    ),
    "group's bias": (
        "GroupNormalization",
        "float[1,4,5] x, float[4] s, float[2] b",
        "<num_groups = 2> (x, s, b)",
        "'b'",
        "[2]",
        "[4]",
    ),
    "gates": (
        "LSTM",
        "float[5,2,3] x, float[1,12,3] w, float[1,16,4] r",
        "<hidden_size = 4> (x, w, r)",
        "'w'",
        "[1, 12, 3]",
        "[1, 16, 3]",
    ),
    "state": (
        "GRU",
        "float[5,2,3] x, float[1,12,3] w, float[1,12,4] r, float[1,3,4] h",
        "<hidden_size = 4> (x, w, r, , , h)",
        "'h'",
        "[1, 3, 4]",
        "[1, 2, 4]",
    ),
    "directions": (
        "RNN",
        "float[5,2,3] x, float[1,4,3] w, float[2,4,4] r",
        '<hidden_size = 4, direction = "bidirectional"> (x, w, r)',
        "'w'",
        "[1, 4, 3]",
        "[2, 4, 3]",
    ),
    "indices": (
        "GatherElements",
        "float[2,3] x, int64[4,4] i",
        "(x, i)",
        "'i'",
        "[4, 4]",
        "[4, 3]",
    ),
    "updates": (
        "ScatterElements",
        "float[4,5] x, int64[2,5] i, float[2,4] u",
        "(x, i, u)",
        "'u'",
        "[2, 4]",
        "[2, 5]",
    ),
    "slices": (
        "ScatterND",
        "float[4,5] x, int64[2,1] i, float[2,4] u",
        "(x, i, u)",
        "'u'",
        "[2, 4]",
        "[2, 5]",
    ),
    "positions": ("MaxUnpool", "float[1,1,2,2] x, int64[1,1,3,2] i", "<kernel_shape = [2, 2]> (x, i)")
    + ("'i'", "[1, 1, 3, 2]", "[1, 1, 2, 2]"),
    "scales": ("QuantizeLinear", "float[2,3] x, float[2] s", "(x, s)", "'s'", "[2]", "[3]"),
    "zero points": (
        "DequantizeLinear",
        "uint8[2,3] x, float[3] s, uint8[2] z",
        "(x, s, z)",
        "'z'",
        "[2]",
        "[3]",
    ),
    "row scales": (
        "QLinearMatMul",
        "uint8[2,3] x, float[2] s, uint8[2] z, uint8[3,4] w, float t, uint8 u",
        "(x, s, z, w, t, u, t, u)",
        "'s'",
        "[2]",
        "[1]",
    ),
    "column scales": (
        "QLinearMatMul",
        "uint8[2,3] x, float t, uint8 u, uint8[3,4] w, float[2] s, uint8[2] z",
        "(x, t, u, w, s, z, t, u)",
        "'s'",
        "[2]",
        "[4]",
    ),
    "signal": ("STFT", "float[1,16,1,1] x", "(x, step)", "'x'", "[1, 16, 1, 1]", "[?, ?, ?]"),
    "letters": (
        "Einsum",
        "float[2,3] x, float[4,5] w",
        '<equation = "ij,jk->ik"> (x, w)',
        "'w'",
        "[4, 5]",
        "[3, ?]",
    ),
    "elements": ("Reshape", "float[2,3,5] x", "(x, shape)", "'x'", "[2, 3, 5]", "[4, 2, 3]"),
    "heads": (
        "Attention",
        "float[2,3,4,8] x, float[2,3,6,9] k, float[2,3,6,8] v",
        "(x, k, v)",
        "'k'",
        "[2, 3, 6, 9]",
        "[2, ?, ?, 8]",
    ),
    "cosines": (
        "RotaryEmbedding",
        "float[2,3,4,8] x, float[2,4,5] c",
        "(x, c, c)",
        "'c'",
        "[2, 4, 5]",
        "[2, 4, 4]",
    ),
    "lengths": (
        "ReverseSequence",
        "float[4,5] x, int64[3] n",
        "<batch_axis = 0, time_axis = 1> (x, n)",
        "'n'",
        "[3]",
        "[4]",
    ),
    "matrices": ("AffineGrid", "float[2,2,2] x", "(x, size)", "'x'", "[2, 2, 2]", "[?, 2, 3]"),
}
"""What does not fit: the operator, the graph's inputs, the node's, then the operand, its shape, and the one wanted."""

WEIGHTS = "int64[3] shape = {4, 2, 3}, int64[4] size = {2, 1, 3, 4}, int64 step = {4}"


@pytest.mark.parametrize("case", MISFITS.values(), ids=MISFITS.keys())
def test_operands_that_do_not_fit(case: tuple[str, str, str, str, str, str]) -> None:
    operator, inputs, operands, name, shape, wanted = case
    attributes, paren, names = operands.partition("(")
    text = f"""<ir_version: 11, opset_import: ["" : 23]>
        misfit ({inputs}) => (y) <{WEIGHTS}> {{ y = {operator} {attributes} {paren}{names} }}"""
    with pytest.raises(ModelError) as raised:
        read_model(parser.parse_model(text))
    said = raised.value.what
    assert f"({name}) is of shape {shape}, {operator} wants {wanted} beside" in said
    assert f"({operator})" in raised.value.where


def test_every_rule_is_tested() -> None:
    assert {case[0] for case in MISFITS.values()} == set(RULES)


def test_what_is_not_known_fits() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        free (float[n,c,8,8] x, float[m,3,3,3] w, float[k] b) => (y) { y = Conv (x, w, b) }"""
    (conv,) = read_model(parser.parse_model(text)).nodes
    check_operand_shapes(conv, None)


@pytest.mark.parametrize("operator", ["Gather", "GatherElements"])
@pytest.mark.parametrize(("index", "told"), [(4, "element 4 of"), (-5, "element -5 of"), (-4, ""), (3, "")])
def test_constant_indices_beyond_their_axis(operator: str, index: int, told: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        take (float[2,4] x) => (y) <int64[1,2] i = {{0, {index}}}> {{ y = {operator} <axis = 1> (x, i) }}"""
    if not told:
        assert read_model(parser.parse_model(text)).outputs
        return
    with pytest.raises(ModelError, match=rf"\({operator}\): it takes {told} an axis of 4 elements"):
        read_model(parser.parse_model(text))


@pytest.mark.parametrize("size", [1, 2])
def test_window_larger_than_its_image(size: int) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        small (float[1,3,{size},4] x, float[4,3,3,3] w) => (y) {{ y = Conv (x, w) }}"""
    with pytest.raises(ModelError, match=r"larger than its input"):
        read_model(parser.parse_model(text))
