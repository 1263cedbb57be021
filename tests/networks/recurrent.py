"""Recurrent networks whose control flow was traced: branches and loops that are known before run time."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from tests.networks.net import Net


def voice(frames: int = 3, width: int = 4, seed: int = 0) -> onnx.ModelProto:
    """A voice detector: one filter bank of two, a gain, a cell in a loop, a running mean in a scan."""
    net = Net("voice", seed)
    x = net.input("signal", frames, 2 * width)
    state = net.input("state", 1, width)
    x = _bank(net, x, frames, width)
    x = _gain(net, x, frames, width)
    state, x = _cell(net, x, state, frames, width)
    x = _running_mean(net, net.op("Reshape", x, net.ints(frames, width)), frames, width)
    score = net.op("MatMul", net.op("Add", x, state), net.matrix(width, 1))
    return net.model(net.op("Sigmoid", score), 1, 1)


def _bank(net: Net, x: str, frames: int, width: int) -> str:
    """An If on the sampling rate, which is a constant of the export."""
    banks = []
    for rate in ("low", "high"):
        branch = net.nested(rate)
        y = branch.op("Abs", branch.op("MatMul", x, branch.matrix(2 * width, width)))
        banks.append(branch.graph(y, shape=(frames, width)))
    is_low = net.op("Equal", net.const(16000, int), net.const(8000, int))
    return net.op("If", is_low, then_branch=banks[0], else_branch=banks[1])


def _gain(net: Net, x: str, frames: int, width: int) -> str:
    """An If on the signal, both of whose branches are cheap."""
    loud = net.op("Greater", net.op("ReduceMax", x, keepdims=0), net.const(1))
    quieter, same = net.nested("quieter"), net.nested("same")
    halved = quieter.graph(quieter.op("Mul", x, quieter.const(0.5)), shape=(frames, width))
    kept = same.graph(same.op("Identity", x), shape=(frames, width))
    return net.op("If", loud, then_branch=halved, else_branch=kept)


def _cell(net: Net, x: str, state: str, frames: int, width: int) -> tuple[str, str]:
    """A Loop of known length over the frames; every state is kept."""
    body = net.nested("cell")
    step = body.input("cell/step", dtype=TensorProto.INT64)
    go_on = body.input("cell/go_on", dtype=TensorProto.BOOL)
    old = body.input("cell/old", 1, width)
    frame = body.op("Unsqueeze", body.op("Gather", x, step, axis=0), body.ints(0))
    mixed = body.op("Add", body.dense(frame, width, width), body.op("MatMul", old, body.matrix(width, width)))
    new = body.op("Tanh", mixed)
    again = body.op("Identity", go_on)
    graph = body.graph(new, body.op("Identity", new), shape=(1, width), condition=again)
    trips, true = net.const(frames, int), net.const(True, bool)
    last, every = net.ops("Loop", trips, true, state, outputs=2, body=graph)
    return last, every


def _running_mean(net: Net, x: str, frames: int, width: int) -> str:
    """A Scan over the frames."""
    body = net.nested("mean")
    total, frame = body.input("mean/total", width), body.input("mean/frame", width)
    total = body.op("Add", total, body.op("Div", frame, body.const(frames)))
    graph = body.graph(total, shape=(width,))
    zeros = net.const([0.0] * width)
    return net.op("Unsqueeze", net.op("Scan", zeros, x, body=graph, num_scan_inputs=1), net.ints(0))
