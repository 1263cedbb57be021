"""`graphopt prune`: from a model and samples to a narrower model."""

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

SHARE = "50%"


def prune(
    model: ModelArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Where to write; without it nothing is."),
    ] = None,
    macs: Annotated[
        str | None, typer.Option("--macs", metavar=SHARE, help="The share of the MACs that is left.")
    ] = None,
    parameters: Annotated[
        str | None,
        typer.Option("--parameters", metavar=SHARE, help="The share of the parameters that is left."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar=SHARE, help="The share of the weights' bytes that is left."),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option("--ratio", metavar=SHARE, help="The share of each group that goes.")
    ] = None,
    data: Data = None,
    labels: Labels = None,
    metric: MetricName = None,
    evaluate: Evaluate = None,
    preprocess: Preprocess = None,
    samples: SampleCount = None,
    importance: Annotated[
        str | None,
        typer.Option(
            "--importance",
            metavar="NAME",
            help="`reconstruction` with data, else `l2`; also `l1`, `batchnorm`, `median`, `activation`.",
        ),
    ] = None,
    recovery: Annotated[
        str,
        typer.Option("--recovery", metavar="NAME", help="`refit` of weights and biases, `bias`, or `none`."),
    ] = "refit",
    multiple: Annotated[
        int | None,
        typer.Option("--multiple", min=1, help="Widths become multiples; else of the target's vectors."),
    ] = None,
    exclude: Exclude = None,
    coupled: Annotated[
        bool, typer.Option("--coupled", help="Also shrink widths that normalisations run along.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KIND",
            help="`heads` of attention, `inner` widths between dense layers, or other `channels`. Repeatable.",
        ),
    ] = None,
    blocks: Annotated[
        bool, typer.Option("--blocks", help="Take out whole residual blocks, not channels; needs --data.")
    ] = False,
    target: Annotated[str | None, target_option("Else host.")] = None,
    input_shape: InputShapes = None,
    layers: Annotated[bool, typer.Option("--layers", help="What fitting did to each layer.")] = False,
    json: Json = False,
) -> None:
    """Take channels out of MODEL, all that belongs to them, and fit what stays to samples.

    The file written is an ordinary smaller model: every convolution, dense layer, head or recurrence is narrower, and
    any run time gains. One of --macs, --parameters, --size and --ratio says how much.

    Example: `graphopt prune model.onnx --macs 50% --data samples.npz:images --labels labels -o small.onnx`

    Example: `graphopt prune vit.onnx --parameters 60% --only heads --only inner --data samples.npz -o small.onnx`

    Example: `graphopt prune resnet.onnx --macs 80% --blocks --data samples.npz:images -o small.onnx`
    """
    from graphopt.cli.files import check_place
    from graphopt.cli.progress import progress
    from graphopt.onnx_io.write import write_model
    from graphopt.pruning import prune as pruned
    from graphopt.report.compression import fit_tables, prune_data, prune_tables
    from graphopt.report.tables import facts, show, show_json
    from graphopt.runtime.files import reported

    check_place(out, model)
    aims = {"--macs": macs, "--parameters": parameters, "--size": size, "--ratio": ratio}
    shares = [share_of(text, option) for option, text in aims.items()]
    with progress(quiet=json) as step:
        result = pruned(
            model,
            data,
            macs=shares[0],
            parameters=shares[1],
            size=shares[2],
            ratio=shares[3],
            importance=importance,
            recovery=recovery,
            multiple=multiple,
            exclude=exclude or (),
            coupled=coupled,
            only=only or (),
            blocks=blocks,
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
        show_json({"out": None if out is None else str(out), **prune_data(result)})
        return
    written = {"ONNX": str(out)} if out else {"nothing written": "name a file with -o OUT.onnx"}
    listed = fit_tables(result.fits) if layers else []
    show(*listed, *prune_tables(result, model.name), facts("", written))
