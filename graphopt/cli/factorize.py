"""`graphopt factorize`: from a model and samples to one whose dense layers are thinner."""

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


def factorize(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option(
            "--parameters", metavar="25%", help="The share of the dense layers' weights that is left."
        ),
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option("--energy", metavar="99%", help="The share of each layer's results that stays."),
    ] = None,
    error: Annotated[
        str | None,
        typer.Option(
            "--error", metavar="5%", help="The error of each layer's results, as root mean squares."
        ),
    ] = None,
    data: Data = None,
    labels: Labels = None,
    metric: MetricName = None,
    evaluate: Evaluate = None,
    preprocess: Preprocess = None,
    samples: SampleCount = None,
    even_if_slower: Annotated[
        bool, typer.Option("--even-if-slower", help="Also take pairs that are slower than their layer.")
    ] = False,
    multiple: Annotated[
        int | None,
        typer.Option("--multiple", min=1, help="Ranks become multiples; else of the target's vectors."),
    ] = None,
    exclude: Exclude = None,
    target: Annotated[str | None, target_option("Else host.")] = None,
    input_shape: InputShapes = None,
    layers: Annotated[bool, typer.Option("--layers", help="What fitting did to each layer.")] = False,
    json: Json = False,
) -> None:
    """Make two thinner layers of each dense layer of MODEL, as far as that is smaller and faster.

    With samples, what counts of the weights is what they do there, and layers are fitted to it. One of --parameters,
    --energy and --error says how far to go.

    Example: `graphopt factorize model.onnx --parameters 25% --data samples.npz:images --labels labels -o small.onnx`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.factorization import factorize as factorized
    from graphopt.onnx_io.write import write_model
    from graphopt.report.compression import factorize_data, factorize_tables, fit_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, model)
    aims = {"--parameters": parameters, "--energy": energy, "--error": error}
    shares = [share_of(text, option) for option, text in aims.items()]
    with progress(quiet=json) as step:
        result = factorized(
            model,
            data,
            parameters=shares[0],
            energy=shares[1],
            error=shares[2],
            even_if_slower=even_if_slower,
            multiple=multiple,
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
        show_json({"out": None if out is None else str(out), **factorize_data(result)})
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = fit_tables(result.fits) if layers else []
    show(*listed, *factorize_tables(result, model.name), facts("", written))
