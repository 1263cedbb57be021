"""What ONNX's C++ code has to say, in one line."""

from __future__ import annotations

import re


def plain_reason(error: Exception) -> str:
    """The innermost message of ONNX's nested ones, with the node that it names in front."""
    text = " ".join(str(error).split())
    node = re.search(r"\(op_type:(\w+), node name: ([^)]*)\): ", text)
    reason = re.sub(r"^.*\[(Shape|Type)InferenceError\] ", "", text)
    reason = re.sub(r"^\(op_type:\w+(, node name: [^)]*)?\): ", "", reason)
    return f"node '{node[2]}' ({node[1]}): {reason}" if node else reason
