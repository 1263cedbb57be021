"""`graphopt optimize`: from a model to a smaller model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphopt.cli.options import InputShapes, Json, PipelineSpec, input_shapes
from graphopt.cli.passes import Explain, PrintAfter, PrintChanges, TimePasses
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.api import OptimizeResult
    from graphopt.ir import Graph


def optimize(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="An ONNX file; --list-passes needs none.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    pipeline: PipelineSpec = None,
    input_shape: InputShapes = None,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="Write the graph as text too.")
    ] = None,
    print_after: PrintAfter = None,
    print_changes: PrintChanges = None,
    time_passes: TimePasses = False,
    explain: Explain = None,
    list_passes: Annotated[bool, typer.Option("--list-passes", help="List the passes.")] = False,
    json: Json = False,
) -> None:
    """Rewrite MODEL into one that computes the same with fewer and cheaper nodes.

    With GRAPHOPT_VERIFY=numeric in the environment the graph is run before and after every pass, and compared.

    Example: `graphopt optimize model.onnx -o small.onnx --explain fold-batchnorm`
    """
    from graphopt import api
    from graphopt.cli.files import check_place
    from graphopt.cli.passes import Printer, findings, findings_data
    from graphopt.cli.progress import progress
    from graphopt.report.passes import select_rules
    from graphopt.report.tables import show, show_json

    if list_passes:
        _list_passes(json)
        return
    if model is None:
        raise UsageError("there is no MODEL", hint="name an ONNX file, or give --list-passes")
    check_place(out, model)
    check_place(text, model, out)
    steps = api.resolve_pipeline(pipeline)
    rules = select_rules(steps, explain or ())
    printer = Printer(print_after, print_changes, steps, json)
    graph = api.load(model, input_shapes=input_shapes(input_shape))
    printer.start(graph)
    with progress(quiet=json or bool(printer)) as step:
        result = api.optimize_with_record(
            graph,
            steps,
            explain=rules,
            before_pass=lambda index, a_pass: step(a_pass.name, index, len(steps.passes)),
            after_pass=printer.after_pass if printer else None,
        )
    _write(result.graph, out, text)
    if json:
        show_json(_data(graph, result, out, text) | findings_data(result.record, rules))
    else:
        show(*findings(result.record, rules, time_passes), *_tables(model, graph, result, out, text))


def _list_passes(json: bool) -> None:
    """Every pass, with its options and rules."""
    from graphopt.report.passes import catalog_data, catalog_tables
    from graphopt.report.tables import show, show_json

    if json:
        show_json(catalog_data())
    else:
        show(*catalog_tables())


def _write(graph: Graph, out: Path | None, text: Path | None) -> None:
    from graphopt.ir.text import to_text
    from graphopt.onnx_io.write import write_model
    from graphopt.runtime.files import reported, written_beside

    if out is not None:
        with reported(out):
            write_model(graph, out)
    if text is not None:
        with written_beside(text) as beside:
            beside.write_text(to_text(graph), encoding="utf-8")


def _data(graph: Graph, result: OptimizeResult, out: Path | None, text: Path | None) -> dict[str, Any]:
    before, after = _measures(graph), _measures(result.graph)
    return {
        "out": None if out is None else str(out),
        "text": None if text is None else str(text),
        **{name.replace(" ", "_"): {"before": before[name], "after": after[name]} for name in before},
    }


def _tables(
    model: Path, graph: Graph, result: OptimizeResult, out: Path | None, text: Path | None
) -> list[Any]:
    from graphopt.report.tables import facts, table

    before, after = _measures(graph), _measures(result.graph)
    files = {"ONNX": out, "text": text}
    written = {kind: str(path) for kind, path in files.items() if path is not None}
    return [
        table(model.name, ("", "before", "after"), [[name, before[name], after[name]] for name in before]),
        facts("", written or {"nothing written": "name a file with -o OUT.onnx"}),
    ]


def _measures(graph: Graph) -> dict[str, int | None]:
    from graphopt.analysis.cost import cost_of_graph
    from graphopt.report.passes import operator_count
    from graphopt.report.shapes import sharpened

    cost = cost_of_graph(sharpened(graph))
    return {
        "nodes": operator_count(graph),
        "groups": len(graph),
        "MACs": cost.macs,
        "parameters": cost.parameters,
    }
