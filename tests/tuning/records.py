"""Records without a measurement behind them."""

from __future__ import annotations

from graphopt.targets.tuning.record import OK, Record, Workload, compiler_version


def record(
    cost: float = 1e-3, *, columns: int = 4, key: str = "a" * 8, dims: tuple[int, ...] = (8, 8), **more
) -> Record:
    return Record(
        workload=Workload(key, "Conv float32:2", dims),
        target=more.pop("target", "here"),
        runner=more.pop("runner", "local"),
        compiler=more.pop("compiler", compiler_version()),
        template=more.pop("template", "direct-convolution"),
        decision={"columns": columns},
        status=more.pop("status", OK),
        cost=cost,
        median=cost,
        **more,
    )
