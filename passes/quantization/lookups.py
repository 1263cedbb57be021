"""Tables whose rows are looked up, embeddings, in bytes.

    Gather(T, i)  -->  DQ(Gather(T', i), s, 0)        T' int8, a scale for each column

Rows are not summed, so that nothing averages their errors out: they have 8 bits where weights have fewer.
"""

from __future__ import annotations

from graphopt.ir import DType, Node, Value
from graphopt.passes.quantization.insert import Activations, before
from graphopt.passes.quantization.parameters import for_weights
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.passes.quantization.weights import as_constants


def quantise_lookup(activations: Activations, node: Node, scheme: Scheme) -> Value:
    """What takes the place of the rows that `node` looks up. Raises UsageError."""
    table, rows = node.inputs[0], node.inputs[1]
    assert table is not None and table.constant is not None
    build = before(node)
    if scheme.weights in ("float16", "bfloat16"):
        narrow = build.const(table.constant.astype(DType[scheme.weights].numpy), name=table.name)
        return build.op("Cast", build.op("Gather", narrow, rows, axis=0), to=DType.float32.onnx_code)
    dtype = STORED["int8"]
    parameters = for_weights(table.constant, dtype, dtype.bits, -1, where=f"table '{table.name}'")
    kept = activations.integer_constant(table.constant, parameters, f"{table.name}.integers")
    integers = build.op("Gather", kept, rows, axis=0, name=node.name)
    constants = as_constants(build, parameters, table.name)
    return build.op("DequantizeLinear", integers, *constants, axis=-1)
