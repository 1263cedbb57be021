"""Grouping: every operator into a fused group, one kernel each.

A group is an anchor (convolution, product, pool, reduction, normalisation), the cheap element-wise work in
front of it, and the element-wise work behind it. Groups grow along values that nobody else reads, and along
several paths at once where those meet again (x * sigmoid(x), a residual addition), so that no intermediate
tensor is written that could stay in a register. Reshapes stay outside: they cost nothing.
"""

from __future__ import annotations

import enum
import math

from graphopt.analysis.storage import is_alias
from graphopt.errors import IRError
from graphopt.ir import KERNEL, DType, Graph, Node, Value
from graphopt.ir.fused import body_of, fuse_nodes, is_fused
from graphopt.ir.layout import blocked_of
from graphopt.targets.attention_group import is_plain, surroundings
from graphopt.targets.lower.support import (
    BLOCKED,
    ELEMENTWISE,
    GENERATORS,
    INTEGER,
    MOVEMENT,
    OPAQUE_OPERATORS,
)

LARGEST_GROUP = 24
"""Operators in one group; more make kernels that take long to compile and spill registers."""


class Kind(enum.IntEnum):
    """What an operator's output element needs of its inputs."""

    ELEMENTWISE = 0  # the element at the same place, up to broadcasting
    INJECTIVE = 1  # one element, somewhere else
    ANCHOR = 2  # many elements
    OPAQUE = 3  # a kernel of its own


INJECTIVE = GENERATORS | MOVEMENT

TRANSCENDENTAL = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu Log Mish Pow Selu Sigmoid Sin Sinh "
    "Softplus Swish Tan Tanh".split()
)
"""Too dear to be computed more than once per element."""


CHEAP = ("Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Max", "Min", "Mul", "Relu", "Sub")
"""What may be done to the input of a convolution or pool as it is read."""

CONVERSIONS = ("Cast", "DequantizeLinear")

WIDENING = ("Add", "Cast", "Mul", "Sub")

BY_ROWS = ("LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")
"""They copy what they read before they work on it."""

MOST_CHANNELS = 2048
"""Of an image that a convolution prepares: all channels of a few pixels are kept in a cache."""

QUANTISED = (DType.int8, DType.uint8, DType.int16)

LARGEST_WINDOW = 64
"""Taps of a pool that prepares its inputs."""


def fuse(graph: Graph) -> None:
    """Put every compute node of `graph` into a group, in place."""
    _dequantize_for_each_reader(graph)
    for node in [n for n in graph.nodes if is_plain(n)]:
        fuse_nodes(graph, [node, *surroundings(node)])
    for node in list(graph.nodes):
        if node.graph is graph and not is_alias(node) and not is_fused(node):
            fuse_nodes(graph, [node])
    for group in reversed([n for n in graph.nodes if is_fused(n)]):  # the later operand takes a residual
        if group.graph is graph:
            _grow(graph, group)
    for group in [n for n in graph.nodes if is_fused(n)]:
        if group.graph is graph:
            _take_in_producers(graph, group)


def _dequantize_for_each_reader(graph: Graph) -> None:
    """Several kernels that read bytes are faster than those that share their floats."""
    for node in list(graph.nodes):
        if not node.is_op("DequantizeLinear"):
            continue
        for use in node.output.uses[1:]:
            copy = graph.copy_node(node, {}, before=use.node)
            use.node.set_input(use.index, copy.output)


def kind_of(node: Node) -> Kind:
    """The kind of an operator; of a group, that of its most demanding member."""
    if is_fused(node):
        return max(kind_of(member) for member in body_of(node).nodes)
    if node.key in INTEGER:
        return {"Lookup": Kind.INJECTIVE, "Requantize": Kind.ELEMENTWISE}.get(node.op_type, Kind.ANCHOR)
    if node.key in BLOCKED:
        return Kind.INJECTIVE if node.op_type in ("Pack", "Unpack") else Kind.ANCHOR
    if node.domain or node.op_type in OPAQUE_OPERATORS or is_plain(node):
        return Kind.OPAQUE
    if node.op_type in ELEMENTWISE:
        return Kind.ELEMENTWISE
    return Kind.INJECTIVE if node.op_type in INJECTIVE else Kind.ANCHOR


def _grow(graph: Graph, group: Node | None) -> None:
    """Take in element-wise consumers as long as the group stays convex and its output keeps its shape."""
    while group is not None:
        group = _extend_once(graph, group)


def _extend_once(graph: Graph, group: Node) -> Node | None:
    if kind_of(group) == Kind.OPAQUE or len(group.outputs) != 1:
        return None
    members = _up_to_meeting_point(group)
    if members is None or _too_large([group, *members]):
        return None
    return _try_fuse(graph, [group, *members])


def _up_to_meeting_point(group: Node) -> list[Node] | None:
    """The consumers of a group up to the one that all paths from it run through, its nearest post-dominator.

    In the order of execution that is the first node to be waited for alone. None when a path ends before, or runs
    through a node that may not follow.
    """
    if not _is_read(group.output):
        return None
    members: list[Node] = []
    waiting = set(group.output.users)
    node = group.next
    while node is not None:
        if node in waiting:
            if not _may_follow(node, group.output):
                return None
            members.append(node)
            waiting.remove(node)
            if not waiting:
                return members
            if not _is_read(node.output):
                return None
            waiting.update(node.output.users)
        node = node.next
    return None


def _is_read(value: Value) -> bool:
    """By other nodes and by nobody outside."""
    return bool(value.users) and not value.is_graph_output


def _may_follow(member: Node, source: Value) -> bool:
    """Element-wise work on tensors of the group's own shape, with one result; bytes that are read again stay bytes."""
    if not is_fused(member) or kind_of(member) != Kind.ELEMENTWISE or len(member.outputs) != 1:
        return False
    if (
        source.dtype in QUANTISED
        and member.output.dtype not in QUANTISED
        and not member.output.is_graph_output
    ):
        return False
    return member.output.shape == source.shape


def _take_in_producers(graph: Graph, group: Node) -> None:
    """Inline cheap work in front of a group that is its only reader: element-wise before anything that reads
    each element once, data movement before element-wise work."""
    changed = True
    while changed:
        changed = False
        for value in group.inputs:
            producer = None if value is None else value.producer
            if producer is None or not is_fused(producer) or not _may_lead(producer, group):
                continue
            merged = _try_fuse(graph, [producer, group])
            if merged is not None:
                group, changed = merged, True
                break


def _may_lead(producer: Node, group: Node) -> bool:
    if len(producer.outputs) != 1 or producer.output.is_graph_output or len(producer.output.users) != 1:
        return False
    if _too_large([producer, group]):
        return False
    first, second = kind_of(producer), kind_of(group)
    if first > Kind.INJECTIVE or second == Kind.OPAQUE:
        return False
    if second == Kind.ANCHOR:
        if first != Kind.ELEMENTWISE or _is_dear(producer):
            return False
        return _reads_once(producer, group) or _joins_behind_anchor(producer, group)
    if _is_dear(producer) and group.output.size > producer.output.size:
        return False
    return not _concatenates(group)


def _reads_once(producer: Node, group: Node) -> bool:
    """The anchor reads each element of the producer's output about once."""
    members = list(body_of(group).nodes)
    anchors = [m for m in members if kind_of(m) == Kind.ANCHOR]
    if len(anchors) != 1:
        return False
    if anchors[0].domain == KERNEL:
        ready = _prepares(producer, from_bytes=anchors[0].op_type not in ("Conv", "ConvTranspose"))
        return ready and _is_read_by(anchors[0], group, producer) and _takes_each_once(anchors[0])
    if anchors[0].op_type in BY_ROWS:
        return _is_dequantised(producer) and _is_read_by(anchors[0], group, producer)
    return anchors[0].op_type.startswith(("Reduce", "Global"))


def _joins_behind_anchor(producer: Node, group: Node) -> bool:
    """It dequantises an image that is combined with what the anchor made: bytes are read in its place."""
    if producer.output.shape != group.output.shape:
        return False
    inner = body_of(group).inputs[group.inputs.index(producer.output)]
    ready = _is_dequantised(producer) or _is_widened(producer)
    return ready and all(kind_of(user) == Kind.ELEMENTWISE for user in inner.users)


def _is_dequantised(producer: Node) -> bool:
    return all(node.op_type == "DequantizeLinear" for node in body_of(producer).nodes)


def _is_widened(producer: Node) -> bool:
    """It makes int32 of bytes, in arithmetic with single numbers: a residual in fixed point."""
    body = body_of(producer)
    wide = all(node.is_op(*WIDENING) and node.output.dtype is DType.int32 for node in body.nodes)
    return wide and all(value.dtype in QUANTISED for value in body.inputs)


def _is_read_by(anchor: Node, group: Node, producer: Node) -> bool:
    """What `producer` makes is the first operand of `anchor`, in `group`."""
    return body_of(group).inputs[group.inputs.index(producer.output)] is anchor.inputs[0]


def _prepares(producer: Node, *, from_bytes: bool) -> bool:
    """Cheap arithmetic on float32, element by element, which templates do as they read; pools convert bytes too."""
    nodes = list(body_of(producer).nodes)
    values = [v for node in nodes for v in (*node.inputs, *node.outputs) if v is not None]
    if any(node.output.shape != producer.output.shape for node in nodes):
        return False
    allowed = (*CHEAP, *CONVERSIONS) if from_bytes else CHEAP
    types = (DType.float32, *QUANTISED) if from_bytes else (DType.float32,)
    return all(m.is_op(*allowed) for m in nodes) and all(v.dtype in types for v in values)


def _takes_each_once(anchor: Node) -> bool:
    """A pointwise convolution, a global pool, or one whose windows do not overlap (or are one), on blocks."""
    x = anchor.inputs[0]
    if x is None or blocked_of(x.type) is None:
        return False
    if anchor.op_type.startswith("Global"):
        return True
    if any(anchor.ints("pads", ()) or ()) or anchor.str("auto_pad", "NOTSET") != "NOTSET":
        return False
    kernel = anchor.ints("kernel_shape", ()) or ()
    strides = anchor.ints("strides", (1,) * len(kernel)) or ()
    if anchor.op_type != "Conv":
        return kernel in (strides, x.static_shape[2:-1]) and math.prod(kernel) <= LARGEST_WINDOW
    return _may_prepare(anchor) and anchor.int("group", 1) == 1 and all(n == 1 for n in (*kernel, *strides))


def _may_prepare(conv: Node) -> bool:
    """Several vectors are made of each that is prepared, and the weights, which are all read for every few pixels, are
    fewer than those."""
    read, made = blocked_of(conv.inputs[0].type), blocked_of(conv.output.type)  # type: ignore[union-attr]
    assert read is not None and made is not None
    pixels = math.prod(conv.output.static_shape[2:-1])
    return (
        read.block == made.block and read.channels <= MOST_CHANNELS and made.block < made.channels <= pixels
    )


def _concatenates(group: Node) -> bool:
    return any(m.op_type == "Concat" for m in body_of(group).nodes)


def _is_dear(group: Node) -> bool:
    return any(m.op_type in TRANSCENDENTAL for m in body_of(group).nodes)


def _too_large(groups: list[Node]) -> bool:
    return sum(len(body_of(g)) for g in groups) > LARGEST_GROUP


def _try_fuse(graph: Graph, nodes: list[Node]) -> Node | None:
    """Fuse, or leave everything as it is when a path leaves the set and comes back."""
    try:
        return fuse_nodes(graph, nodes)
    except IRError:
        return None


def operators(group: Node) -> list[str]:
    """The operator types of a group, in order."""
    if group.domain != KERNEL:
        return [group.op_type]
    return [member.op_type for member in body_of(group).nodes]
