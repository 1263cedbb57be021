"""Einsum: operands are multiplied from left to right, each label summed once no later operand needs it.

`ij,jk,kl->il` is two products of two. A label that an operand has twice reads its diagonal; the axes of an
ellipsis are labels counted from the last one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tvm import te

from graphopt.ir import Node
from graphopt.targets.lower.movement import present
from graphopt.targets.lower.tensors import Expr, Lowering, fill, shape_of, storage, wide_dtype

Label = str | int
"""A letter; or for an axis of the ellipsis its number, -1 the last."""


@dataclass(frozen=True)
class Term:
    """A tensor and the label of each of its axes."""

    tensor: te.Tensor
    labels: tuple[Label, ...]

    def read(self, index: dict[Label, Expr], dtype: str) -> Expr:
        dims = shape_of(self.tensor)
        places = [0 if dim == 1 else index[label] for label, dim in zip(self.labels, dims, strict=True)]
        return self.tensor(*places).astype(dtype)


def _einsum(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    tensors = present(inputs)
    terms, result = _labelled(node.str("equation"), tensors)
    sizes = _sizes(terms)
    total, *others = terms
    wide = wide_dtype(storage(node.output.dtype))
    if not others:
        total = _product([total], result, sizes, wide)
    for number, term in enumerate(others):
        later = others[number + 1 :]
        needed = {*result, *(label for t in later for label in t.labels)}
        joint = dict.fromkeys((*total.labels, *term.labels))
        kept = tuple(label for label in joint if label in needed) if later else result
        total = _product([total, term], kept, sizes, wide)
    kind = storage(node.output.dtype)
    if kind == wide:
        return total.tensor
    return te.compute(total.tensor.shape, lambda *i: total.tensor(*i).astype(kind), name="finish")


def _product(terms: Sequence[Term], kept: tuple[Label, ...], sizes: dict[Label, int], dtype: str) -> Term:
    """The product of terms, summed over the labels that are not kept."""
    shape = tuple(sizes[label] for label in kept)
    summed = [label for label in dict.fromkeys(l for t in terms for l in t.labels) if label not in kept]
    if any(sizes[label] == 0 for label in summed):
        return Term(fill(shape, 0, dtype, "einsum"), kept)
    axes = {label: te.reduce_axis((0, sizes[label]), f"k{n}") for n, label in enumerate(summed)}

    def element(*indices: Expr) -> Expr:
        index = {**dict(zip(kept, indices, strict=True)), **axes}
        value = terms[0].read(index, dtype)
        for term in terms[1:]:
            value = value * term.read(index, dtype)
        return te.sum(value, axis=list(axes.values())) if axes else value

    return Term(te.compute(shape, element, name="einsum"), kept)


def _labelled(equation: str, tensors: Sequence[te.Tensor]) -> tuple[list[Term], tuple[Label, ...]]:
    """The terms of an equation, and the labels of its result."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = [
        Term(tensor, _labels(text, len(shape_of(tensor))))
        for text, tensor in zip(left.split(","), tensors, strict=True)
    ]
    count = Counter(label for term in terms for label in term.labels)
    ellipsis = sorted(label for label in count if isinstance(label, int))
    if arrow:
        letters = len(right.replace("...", ""))
        return terms, _labels(right, letters + len(ellipsis))
    once = sorted(label for label, times in count.items() if isinstance(label, str) and times == 1)
    return terms, (*ellipsis, *once)


def _labels(text: str, rank: int) -> tuple[Label, ...]:
    """One label per axis of a tensor of `rank` axes."""
    labels: list[Label] = []
    for part in re.findall(r"\.\.\.|\w", text):
        if part == "...":
            labels.extend(range(-(rank - len(text) + 3), 0))
        else:
            labels.append(part)
    return tuple(labels)


def _sizes(terms: Iterable[Term]) -> dict[Label, int]:
    """The extent of each label; an axis of 1 fits any other."""
    sizes: dict[Label, int] = {}
    for term in terms:
        for label, dim in zip(term.labels, shape_of(term.tensor), strict=True):
            sizes[label] = dim if sizes.get(label, 1) == 1 else sizes[label]
    return sizes


LOWERINGS: dict[str, Lowering] = {"Einsum": _einsum}
