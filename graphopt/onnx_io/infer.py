"""Output types of one node, by ONNX's own inference functions.

Whole models are inferred at import; this serves the nodes that rewrites create.
"""
