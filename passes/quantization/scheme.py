"""How a layer is quantised, as data, and the names and spec strings of schemes.

    int8                           uint8 activations with a zero point, int8 weights by output channel
    int8{activations=int8}         the same with symmetric activations
    weights-int4{group=64}         4-bit weights alone, a scale for each 64 of them

Weights of 3 and 2 bits are kept as int4: ONNX has no operator on narrower ones that run times know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Literal

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import DType
from graphopt.spec import options_of, spec_of

Activations = Literal["float32", "uint8", "int8", "uint16", "int16"]
Weights = Literal["int8", "int4", "int3", "int2", "codebook", "float16", "bfloat16"]

STORED = {"int4": DType.int4, "int3": DType.int4, "int2": DType.int4, "int8": DType.int8}
BITS = {"int8": 8, "int4": 4, "int3": 3, "int2": 2, "codebook": 4, "float16": 16, "bfloat16": 16}


@dataclass(frozen=True)
class Scheme:
    """What a product reads.

    `activations` float32 leaves those as they are; signed types are symmetric, unsigned ones have a zero point.
    `weights` are symmetric integers with one scale for each output channel (`per_channel`), or for each `group` of so
    many weights of a channel; or one of 16 numbers of the layer (codebook); or narrower floats. With `dynamic` the
    ranges of activations are found while the model runs.
    """

    activations: Activations = "uint8"
    weights: Weights = "int8"
    per_channel: bool = True
    group: int = 0
    dynamic: bool = False

    def __post_init__(self) -> None:
        if self.group < 0 or self.group == 1 or (self.group and not self.weights.startswith("int")):
            raise UsageError(
                f"weights of {self.weights} in groups of {self.group}",
                where="scheme",
                hint="groups are of 2 integers or more, such as weights-int4{group=64}",
            )
        if self.dynamic and (self.activations, self.weights, self.group) != ("uint8", "int8", 0):
            raise UsageError(
                "dynamic ranges are for uint8 activations and int8 weights",
                where="scheme",
                hint="leave the other options out",
            )

    @property
    def activation_type(self) -> DType | None:
        """The type of what is quantised by calibrated ranges; None where nothing is."""
        return None if self.activations == "float32" or self.dynamic else DType[self.activations]

    @property
    def weight_bits(self) -> int:
        return BITS[self.weights]

    @property
    def computes_in_integers(self) -> bool:
        """Sums are of products of integers."""
        return self.activations != "float32" and self.weights in STORED

    @property
    def product(self) -> str:
        """The types that are multiplied, as targets list them: "uint8 x int8". Empty where floats are."""
        if not self.computes_in_integers or self.group:
            return ""
        return f"{self.activations} x {STORED[self.weights].label}"

    def __str__(self) -> str:
        """The scheme with a name that differs in fewest fields, and those; of several the first that has one."""
        nearest = min(SCHEMES, key=lambda name: self._differences(SCHEMES[name]))
        return spec_of(nearest, self, SCHEMES[nearest])

    def _differences(self, other: Scheme) -> int:
        return sum(getattr(self, f.name) != getattr(other, f.name) for f in fields(self))


SCHEMES = {
    "int8": Scheme(),
    "int4": Scheme(weights="int4"),
    "16x8": Scheme(activations="int16"),
    "16x4": Scheme(activations="int16", weights="int4"),
    "dynamic": Scheme(dynamic=True),
    **{f"weights-{weights}": Scheme(activations="float32", weights=weights) for weights in BITS},  # type: ignore[arg-type]
}
"""The schemes that have a name: activations x weights, or weights alone."""

_SPEC = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\{(?P<options>[^{}]*)\})?\s*")


def parse_scheme(spec: str | Scheme) -> Scheme:
    """The scheme of a name, with options in braces. Raises UsageError."""
    if isinstance(spec, Scheme):
        return spec
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"'{spec}' is not a scheme", hint="write a name, or name{option=value}")
    if match["name"] not in SCHEMES:
        hint = did_you_mean(match["name"], SCHEMES, f"schemes: {', '.join(SCHEMES)}")
        raise UsageError(f"there is no scheme '{match['name']}'", hint=hint)
    options = options_of(match["options"] or "", Scheme, f"scheme '{match['name']}'")
    return replace(SCHEMES[match["name"]], **options)
