"""What one trial found: a workload, a decision of a template, a machine, and how long it took."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from graphopt.ir import Graph
from graphopt.ir.structure import structure_key
from graphopt.targets.device import Host, Target

VERSION = 1
"""Of the records' form."""

OK, FAILED, WRONG, LATE = STATUSES = "ok", "failed", "wrong", "late"
"""Measured; not built or not run; gave other numbers; did not end in time."""


@dataclass(frozen=True)
class Workload:
    """A group's body, blind to names: `key` is its fingerprint; `family` its operators and types, and `dims` all
    dimensions of its inputs and outputs, by which others are near or far."""

    key: str
    family: str
    dims: tuple[int, ...]

    @classmethod
    def of(cls, body: Graph) -> Workload:
        values = [*body.inputs, *body.outputs]
        types = [value.type for value in values if value.type is not None]
        shapes = [type.static_shape for type in types]
        operators = "+".join(node.key for node in body.nodes)
        family = f"{operators} {' '.join(f'{type.dtype.label}:{type.rank}' for type in types)}"
        return cls(structure_key(body), family, tuple(dim for shape in shapes for dim in shape))


@dataclass(frozen=True)
class Record:
    """One trial. `cost` is the minimum of its runs and `median` the median, in `unit` (seconds, or instructions);
    both are infinite unless `status` is "ok". `is_default` tells of the decision that needs no tuning."""

    workload: Workload
    target: str
    runner: str
    compiler: str
    template: str
    decision: Mapping[str, int]
    status: str
    cost: float = float("inf")
    median: float = float("inf")
    unit: str = "s"
    threads: int = 1
    is_default: bool = False

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Records of one place may be compared: workload, target, runner and threads."""
        return self.workload.key, self.target, self.runner, self.threads

    @property
    def settings(self) -> tuple[str, tuple[tuple[str, int], ...]]:
        """The template and its decision, to look up."""
        return self.template, tuple(sorted(self.decision.items()))

    def line(self) -> str:
        """The record as one line of JSON."""
        fields = dataclasses.asdict(self)
        if self.status != OK:
            del fields["cost"], fields["median"]
        return json.dumps({"version": VERSION, **fields}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> Record:
        """Raises ValueError for what `line` did not write."""
        try:
            fields: dict[str, Any] = json.loads(line)
            if fields.pop("version") != VERSION or fields["status"] not in STATUSES:
                raise ValueError("it is of another version")
            work = fields.pop("workload")
            workload = Workload(str(work["key"]), str(work["family"]), tuple(map(int, work["dims"])))
            decision = {str(name): int(value) for name, value in fields.pop("decision").items()}
            record = cls(workload=workload, decision=decision, **fields)
            if not (float(record.cost) > 0 and int(record.threads) > 0):
                raise ValueError("it has no cost")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        return record


def compiler_version() -> str:
    """What makes the kernels; what another version measured may no longer be true."""
    return f"tvm {metadata.version('apache-tvm')}"


def fingerprint(target: Target) -> str:
    """What kernels depend on of a target: processor, features, cores, and on this machine its name."""
    features = "".join(f" +{feature}" for feature in sorted(target.features))
    name = f" ({target.description})" if isinstance(target, Host) else ""
    return f"{target.triple} {target.cpu}{features} x{target.cores}{name}"
