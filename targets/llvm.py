"""What LLVM knows: the processors of an architecture and their features.

LLVM compiles for a generic processor when it does not know the one that is named, and says so only on standard
error; here it is an error.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

import tvm

from graphopt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from graphopt.targets.device import Target


def check_processor(target: Target) -> None:
    """Raise UsageError for a processor or a feature that LLVM does not know."""
    cpus, features = known(target.triple)
    _check("processor", target.cpu, cpus, target)
    for feature in target.features:
        _check("feature", feature, features, target)


@cache
def known(triple: str) -> tuple[frozenset[str], frozenset[str]]:
    """The processors of the triple's architecture, and every feature that one of them has."""
    cpus_of = tvm.get_global_func("target.llvm_get_cpu_archlist")
    features_of = tvm.get_global_func("target.llvm_get_cpu_features")
    machine = {"kind": "llvm", "mtriple": triple}
    cpus = frozenset(map(str, cpus_of(tvm.target.Target(machine))))
    features: set[str] = set()
    for cpu in cpus:
        features.update(map(str, features_of(tvm.target.Target({**machine, "mcpu": cpu}))))
    return cpus, frozenset(features)


@cache
def features_of(target: Target) -> frozenset[str]:
    """What the target's processor has, by LLVM's names, and what its file adds."""
    machine = {"kind": "llvm", "mtriple": target.triple, "mcpu": target.cpu}
    found = tvm.get_global_func("target.llvm_get_cpu_features")(tvm.target.Target(machine))
    return frozenset(map(str, found)) | set(target.features)


def _check(what: str, name: str, names: Collection[str], target: Target) -> None:
    if name in names:
        return
    raise UsageError(
        f"LLVM knows no {what} '{name}' for {target.triple}",
        where=f"target {target.name}",
        hint=did_you_mean(name, names, f"for instance {', '.join(sorted(names)[:8])}"),
    )
