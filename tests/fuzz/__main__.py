"""Random models by the hundred: how many were tried, what failed, and the seed and smallest model of each failure."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import onnx
from rich.console import Console
from rich.progress import track

from tests.fuzz.check import Failure, failure_of
from tests.fuzz.generate import model
from tests.fuzz.shrink import shrunk


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="models")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first; the others have the numbers behind it"
    )
    parser.add_argument("--compile", action="store_true", help="compile each for this machine, too")
    parser.add_argument("--corpus", type=Path, help="a folder for the smallest model of each failure")
    options = parser.parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    started, stages = time.monotonic(), Counter[str]()
    seeds = range(options.seed, options.seed + options.count)
    for seed in track(seeds, description="models", console=console, transient=True):
        whole = model(seed)
        try:
            failure = failure_of(whole, seed, compiled=options.compile)
        except Exception as error:
            failure = Failure("ONNX Runtime", str(error).split("\n")[0])
            stages["refused by ONNX Runtime"] += 1
            continue
        if failure is None:
            continue
        stages[failure.stage.split(" ")[0]] += 1

        def fails(cut: onnx.ModelProto, stage: str = failure.stage, seed: int = seed) -> bool:
            try:
                found = failure_of(cut, seed, compiled=stage == "compiled")
            except Exception:
                return False
            return found is not None and found.stage == stage

        small = shrunk(whole, fails)
        operators = " ".join(node.op_type for node in small.graph.node)
        console.print(f"seed {seed}: {failure.stage}: {failure.reason[:160]} ({operators})")
        if options.corpus:
            options.corpus.mkdir(parents=True, exist_ok=True)
            onnx.save(small, options.corpus / f"seed_{seed}.onnx")
    seconds = time.monotonic() - started
    told = ", ".join(f"{count} {stage}" for stage, count in stages.items()) or "none failed"
    console.print(f"{options.count} models from seed {options.seed} in {seconds:.0f} s: {told}")


main()
