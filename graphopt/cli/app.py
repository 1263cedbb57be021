"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from graphopt.cli.bench import bench
from graphopt.cli.compare import compare
from graphopt.cli.compile import compile_model
from graphopt.cli.database import database
from graphopt.cli.errors import EXIT_CODES
from graphopt.cli.factorize import factorize
from graphopt.cli.inspect import inspect
from graphopt.cli.optimize import optimize
from graphopt.cli.package import package
from graphopt.cli.prune import prune
from graphopt.cli.quantize import quantize
from graphopt.cli.recover import recover
from graphopt.cli.run import run
from graphopt.cli.sparsify import sparsify
from graphopt.cli.targets import targets
from graphopt.cli.tune import tune
from graphopt.cli.verify import verify

EPILOG = "**Exit codes.** " + "; ".join(f"{code}: {text}" for code, text in EXIT_CODES.items()) + "."

app = typer.Typer(
    help="Compile a trained ONNX model into a small, fast library for a small device.",
    epilog=EPILOG,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def graphopt(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if version:
        from graphopt import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (
    inspect,
    optimize,
    quantize,
    prune,
    factorize,
    sparsify,
    recover,
    tune,
    run,
    verify,
    compare,
    bench,
    package,
):
    app.command(no_args_is_help=True)(command)
app.command("compile", no_args_is_help=True)(compile_model)
app.add_typer(targets, name="targets")
app.add_typer(database, name="db")
