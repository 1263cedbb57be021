"""The activations of recurrent gates, chosen by name, with ONNX's lists of alphas and betas.

The lists are consumed in the order of the activations, by those that have such a parameter; where a list has ended
the parameter has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tvm import tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.lower.arithmetic import sigmoid
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import Expr, dtype_of

Activation = Callable[[Expr], Expr]


def activations_of(node: Node, defaults: tuple[str, ...], directions: int) -> list[tuple[Activation, ...]]:
    """One tuple of functions per direction, as many as `defaults` has names.

    Equal choices give equal tuples. Raises UnsupportedError for an unknown name.
    """
    given = node.attr("activations")
    names = _texts(given) if given else list(defaults) * directions
    alphas, betas = (iter(node.attr(f"activation_{key}") or ()) for key in ("alpha", "beta"))
    if len(names) != len(defaults) * directions:
        raise UnsupportedError(
            f"it has {len(names)} activations, not {len(defaults) * directions}", where=where(node)
        )
    chosen = [_activation(node, name, alphas, betas) for name in names]
    return [tuple(chosen[d * len(defaults) : (d + 1) * len(defaults)]) for d in range(directions)]


@dataclass(frozen=True)
class _Form:
    """A function of x, alpha and beta. A default of None: the function has no such parameter."""

    apply: Callable[[Expr, Expr, Expr], Expr]
    alpha: float | None = None
    beta: float | None = None


@dataclass(frozen=True)
class _Chosen:
    """A form with its parameters: comparable, so that equal directions are found."""

    form: _Form
    alpha: float
    beta: float

    def __call__(self, x: Expr) -> Expr:
        number = partial(tirx.const, dtype=dtype_of(x))
        return self.form.apply(x, number(self.alpha), number(self.beta))


def _activation(node: Node, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    form = FORMS.get(name.lower())
    if form is None:
        raise UnsupportedError(
            f"'{name}' is not an activation of recurrent operators",
            where=where(node),
            hint=f"known are {', '.join(sorted(FORMS))}",
        )
    alpha = 0.0 if form.alpha is None else float(next(alphas, form.alpha))
    beta = 0.0 if form.beta is None else float(next(betas, form.beta))
    return _Chosen(form, alpha, beta)


def _texts(values: object) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]  # type: ignore[attr-defined]


def _zero(x: Expr) -> Expr:
    return tirx.const(0, dtype_of(x))


def _one(x: Expr) -> Expr:
    return tirx.const(1, dtype_of(x))


FORMS = {
    "affine": _Form(lambda x, a, b: a * x + b, alpha=1.0, beta=0.0),
    "elu": _Form(lambda x, a, b: tirx.Select(x < _zero(x), a * (tirx.exp(x) - _one(x)), x), alpha=1.0),
    "hardsigmoid": _Form(
        lambda x, a, b: tirx.max(tirx.min(a * x + b, _one(x)), _zero(x)), alpha=0.2, beta=0.5
    ),
    "leakyrelu": _Form(lambda x, a, b: tirx.Select(x < _zero(x), a * x, x), alpha=0.01),
    "relu": _Form(lambda x, a, b: tirx.max(x, _zero(x))),
    "scaledtanh": _Form(lambda x, a, b: a * tirx.tanh(b * x), alpha=1.0, beta=1.0),
    "sigmoid": _Form(lambda x, a, b: sigmoid(x)),
    "softplus": _Form(lambda x, a, b: tirx.max(x, _zero(x)) + tirx.log(_one(x) + tirx.exp(-tirx.abs(x)))),
    "softsign": _Form(lambda x, a, b: x / (_one(x) + tirx.abs(x))),
    "tanh": _Form(lambda x, a, b: tirx.tanh(x)),
    "thresholdedrelu": _Form(lambda x, a, b: tirx.Select(x > a, x, _zero(x)), alpha=1.0),
}
"""By ONNX's names in lower case."""
