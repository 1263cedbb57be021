"""`graphopt sparsify`: from a model and samples to one with most of its weights zero."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.compression_options import (
    Data,
    Evaluate,
    Exclude,
    Labels,
    MetricName,
    Preprocess,
    SampleCount,
    share_of,
)
from graphopt.cli.options import InputShapes, Json, ModelArgument, input_shapes, target_option


def sparsify(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option("--ratio", metavar="90%", help="The share of weights that become zero.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Weights of less magnitude become zero.")
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            "--pattern",
            metavar="PATTERN",
            help="`unstructured`, N of M that stay such as `2:4`, or blocks that go together such as `1x4`.",
        ),
    ] = "unstructured",
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="The same ratio in each layer; else by what it costs.")
    ] = False,
    data: Data = None,
    labels: Labels = None,
    metric: MetricName = None,
    evaluate: Evaluate = None,
    preprocess: Preprocess = None,
    samples: SampleCount = None,
    exclude: Exclude = None,
    target: Annotated[str | None, target_option("Else host.")] = None,
    input_shape: InputShapes = None,
    layers: Annotated[bool, typer.Option("--layers", help="What fitting did to each layer.")] = False,
    json: Json = False,
) -> None:
    """Make most weights of MODEL zero, and let the others make up for them.

    With samples, weights go by what results lose, and the rest is fitted; without, by magnitude. The file written holds
    the zeros as numbers: docs/sparsity.md tells what they are good for.

    Example: `graphopt sparsify model.onnx --ratio 90% --data samples.npz:images --labels labels -o sparse.onnx`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.report.compression import fit_tables, sparsify_data, sparsify_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported
    from graphopt.sparsification import sparsify as sparsified

    check_place(out, model)
    share = share_of(ratio, "--ratio")
    with progress(quiet=json) as step:
        result = sparsified(
            model,
            data,
            ratio=share,
            threshold=threshold,
            pattern=pattern,
            per_layer=per_layer,
            exclude=exclude or (),
            labels=labels,
            metric=metric,
            evaluate=evaluate,
            preprocess=preprocess,
            limit=samples,
            measure=data is not None,
            target=target,
            input_shapes=input_shapes(input_shape),
            progress=step,
        )
    if out is not None:
        with reported(out):
            write_model(result.graph, out)
    if json:
        show_json({"out": None if out is None else str(out), **sparsify_data(result)})
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = fit_tables(result.fits) if layers else []
    show(*listed, *sparsify_tables(result, model.name), facts("", written))
