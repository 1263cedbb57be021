"""ONNX's own node test cases through the whole compiler: how many pass.

    python -m bench.node_suite [--quick] [--jobs 2] [--json FILE]

A case is `passed_compiled` when its outputs come from generated kernels on run-time data, `passed_folded` when
nothing is left to compute once shapes and attributes are known, `refused` when graphopt says that it cannot
compile it, `wrong` when an output differs, `crashed` when anything else happens.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter

import numpy as np
import onnx

from bench.common import Report, arguments, progress

COLUMNS = ("operator", "passed_compiled", "passed_folded", "refused", "wrong", "crashed", "example")
OUTCOMES = COLUMNS[1:6]
QUICK_STRIDE = 12
SECONDS_PER_CASE = 120


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    numbers = [n for n, case in enumerate(cases()) if options.match in case.name]
    if options.quick:
        numbers = numbers[::QUICK_STRIDE]
    results = []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=200) as pool:
        pending = [(n, pool.apply_async(run_case, (n,))) for n in numbers]
        for number, result in progress(pending, lambda item: cases()[item[0]].name):
            try:
                results.append(result.get(SECONDS_PER_CASE))
            except multiprocessing.TimeoutError:
                results.append((cases()[number].name, "?", "crashed", "no answer in time"))
    summarise(results).finish(options.json)


def cases() -> list:
    """The cases that the installed onnx generates; made once per process."""
    if not _cases:
        from onnx.backend.test.loader import load_node_model_tests

        _cases.extend(load_node_model_tests())
    return _cases


_cases: list = []


def run_case(number: int) -> tuple[str, str, str, str]:
    """(name, first operator, outcome, reason) of one case."""
    from graphopt.backend import prepare
    from graphopt.errors import GraphoptError, IRError, ToolchainError

    case = cases()[number]
    operator = case.model.graph.node[0].op_type
    try:
        outcome, reason = "passed_compiled", ""
        rep = prepare(case.model)
        for given, wanted in case.data_sets:
            inputs, expected = ([tensor(value) for value in side] for side in (given, wanted))
            outputs = rep.run(inputs)
            reason = reason or mismatch(outputs, expected, case.rtol, case.atol)
            if rep.is_folded(inputs):
                outcome = "passed_folded"
        return case.name, operator, "wrong" if reason else outcome, reason
    except (IRError, ToolchainError) as error:
        return case.name, operator, "crashed", str(error)
    except GraphoptError as error:
        return case.name, operator, "refused", str(error)
    except Exception as error:
        return case.name, operator, "crashed", f"{type(error).__name__}: {error}"


def tensor(value: object) -> object:
    """The array of a tensor that a case gives as a message or a number; sequences and the like as they are."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def mismatch(outputs: tuple, expected: list, rtol: float, atol: float) -> str:
    """Why the outputs are not the expected ones, or an empty string."""
    if len(outputs) != len(expected):
        return f"{len(outputs)} outputs, expected {len(expected)}"
    for got, want in zip(outputs, expected, strict=True):
        if not isinstance(want, np.ndarray):
            return "the expected output is not a tensor"
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
        try:
            if want.dtype.kind in "biu":
                np.testing.assert_array_equal(got, want)
            else:
                a, b = got.astype(np.float64), want.astype(np.float64)
                np.testing.assert_allclose(a, b, rtol=max(rtol, 1e-3), atol=max(atol, 1e-5))
        except AssertionError as error:
            return " ".join(str(error).split())[:200]
    return ""


def summarise(results: list[tuple[str, str, str, str]]) -> Report:
    """A row per operator with cases that do not pass, and the totals as figures."""
    report = Report("ONNX node cases", COLUMNS)
    by_operator: dict[str, Counter] = {}
    examples: dict[str, str] = {}
    for name, operator, outcome, reason in results:
        by_operator.setdefault(operator, Counter())[outcome] += 1
        if not outcome.startswith("passed"):
            examples.setdefault(operator, f"{name}: {reason}"[:150])
    for operator in sorted(by_operator):
        counts = by_operator[operator]
        report.add(operator=operator, **{o: counts[o] for o in OUTCOMES}, example=examples.get(operator, ""))
    totals = Counter(outcome for _, _, outcome, _ in results)
    report.figures = {outcome: totals[outcome] for outcome in OUTCOMES}
    report.figures["passed"] = totals["passed_compiled"] + totals["passed_folded"]
    report.figures["cases"] = len(results)
    return report


if __name__ == "__main__":
    main()
