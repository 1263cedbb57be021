"""The passes: one file each, listed here by the name that spec strings use."""

from __future__ import annotations

from importlib import import_module

from graphopt.pipeline import Pass

PASSES: dict[str, str] = {
    "assign-layout": "assign_layout:AssignLayout",
    "canonicalize": "canonicalize:Canonicalize",
    "compute-in-half": "compute_in_half:ComputeInHalf",
    "eliminate-common-subexpressions": "eliminate_common_subexpressions:EliminateCommonSubexpressions",
    "eliminate-dead-code": "eliminate_dead_code:EliminateDeadCode",
    "equalize": "equalize:Equalize",
    "expand-functions": "expand_functions:ExpandFunctions",
    "expand-quantized": "expand_quantized:ExpandQuantized",
    "factorize-dense": "factorize_dense:FactorizeDense",
    "fold-affine": "fold_affine:FoldAffine",
    "fold-batchnorm": "fold_batchnorm:FoldBatchNorm",
    "fold-constants": "fold_constants:FoldConstants",
    "fold-pad": "fold_pad:FoldPad",
    "fold-shapes": "fold_shapes:FoldShapes",
    "fuse-activations": "fuse_activations:FuseActivations",
    "fuse-residual": "fuse_residual:FuseResidual",
    "inline-branches": "inline_branches:InlineBranches",
    "integer-io": "integer_io:IntegerIO",
    "lower-integer": "lower_integer:LowerInteger",
    "merge-parallel": "merge_parallel:MergeParallel",
    "migrate-outliers": "migrate_outliers:MigrateOutliers",
    "multiply-by-scales": "multiply_by_scales:MultiplyByScales",
    "normalize-matmul": "normalize_matmul:NormalizeMatMul",
    "patch-rows": "patch_rows:PatchRows",
    "pool-first": "pool_first:PoolFirst",
    "prune-channels": "prune_channels:PruneChannels",
    "prune-heads": "prune_heads:PruneHeads",
    "prune-layers": "prune_layers:PruneLayers",
    "quantize": "quantize:Quantize",
    "recentre-bytes": "recentre_bytes:RecentreBytes",
    "recognize-activations": "recognize_activations:RecognizeActivations",
    "recognize-attention": "recognize_attention:RecognizeAttention",
    "recognize-layernorm": "recognize_layernorm:RecognizeLayerNorm",
    "recognize-lookup": "recognize_lookup:RecognizeLookup",
    "recognize-recurrence": "recognize_recurrence:RecognizeRecurrence",
    "recognize-rmsnorm": "recognize_rmsnorm:RecognizeRMSNorm",
    "recognize-softmax": "recognize_softmax:RecognizeSoftmax",
    "requantize-fixed": "requantize_fixed:RequantizeFixed",
    "saturate-activations": "saturate_activations:SaturateActivations",
    "share-buffers": "share_buffers:ShareBuffers",
    "sink-transposes": "sink_transposes:SinkTransposes",
    "sparsify": "sparsify:Sparsify",
    "squeeze-convolution": "squeeze_convolution:SqueezeConvolutions",
    "tabulate-activations": "tabulate_activations:TabulateActivations",
}
"""Spec name -> module and class."""

UNFUSED = (
    "eliminate-dead-code,fold-constants,expand-quantized,inline-branches,fold-shapes,fold-constants,inline-branches,"
    "canonicalize,"
    "recognize-activations,recognize-layernorm,recognize-rmsnorm,recognize-softmax,recognize-attention,"
    "recognize-lookup,"
    "eliminate-common-subexpressions,"
    "sink-transposes,fold-pad,fold-batchnorm,squeeze-convolution,normalize-matmul,fold-affine,pool-first,merge-parallel,"
    "fold-constants,canonicalize,eliminate-common-subexpressions,eliminate-dead-code"
)
"""As much of `DEFAULT` as leaves ONNX's operators alone."""

QUANTIZABLE = UNFUSED.replace("recognize-attention,", "").replace("merge-parallel,", "")
"""What a model is calibrated and quantised behind: each product is a node of its own, with ranges of its own."""

PRUNABLE = QUANTIZABLE
"""What channels are taken from behind: shapes are numbers, batch normalisation is in the weights."""

DEFAULT = f"{UNFUSED},fuse-activations,fuse-residual"
"""What `optimize` and `compile` run unless told otherwise."""


def catalog() -> dict[str, type[Pass]]:
    """Every pass class by its spec name."""
    return {name: _load(home) for name, home in PASSES.items()}


def _load(home: str) -> type[Pass]:
    module, _, cls = home.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), cls)
