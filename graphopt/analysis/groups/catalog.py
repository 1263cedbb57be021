"""The rule of each operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.analysis.groups import elementwise, moves, products
from graphopt.analysis.groups.links import Links
from graphopt.ir import Node

Rule = Callable[[Node, Links], None]

ELEMENTWISE = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf "
    "Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less "
    "LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink "
    "Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"
)

POOLS = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool"
ALONG_AN_AXIS = "CumSum Hardmax LogSoftmax LpNormalization Softmax"
REDUCTIONS = (
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare"
)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), elementwise.elementwise),
    **dict.fromkeys(POOLS.split(), elementwise.window),
    **dict.fromkeys(ALONG_AN_AXIS.split(), elementwise.along_axis),
    **dict.fromkeys(REDUCTIONS.split(), elementwise.reduction),
    **dict.fromkeys(("Expand", "Resize", "Tile"), moves.keeps_equal_axes),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), products.recurrence),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), elementwise.normalization_of_rows),
    "Attention": products.attention,
    "BatchNormalization": elementwise.batch_normalization,
    "Concat": moves.concat,
    "Conv": products.conv,
    "ConvTranspose": products.conv_transpose,
    "DepthToSpace": moves.depth_to_space,
    "Einsum": products.einsum,
    "Gather": moves.gather,
    "Gemm": products.gemm,
    "GroupNormalization": elementwise.group_normalization,
    "InstanceNormalization": elementwise.instance_normalization,
    "MatMul": products.matmul,
    "Pad": moves.pad,
    "Slice": moves.slice_,
    "SpaceToDepth": moves.space_to_depth,
    "Split": moves.split,
    "Transpose": moves.transpose,
}

RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep all elements in their order (`reshapes.py`)."""

SEVERAL_OUTPUTS = frozenset({"GRU", "LSTM", "RNN", "Split"})
"""Operators whose rules tell of all outputs; of others with more than one that is used nothing may go."""
