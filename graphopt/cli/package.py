"""`graphopt package`: a firmware bundle in the layout of somebody's build system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphopt.cli.options import BundleArgument, Json


def package(
    bundle: BundleArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="SYSTEM",
            help="zephyr, esp-idf, arduino, platformio or cmsis-pack: what builds it.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; else the model's name."),
    ] = None,
    *,
    version: Annotated[str, typer.Option(help="The package's own, such as 1.2.0.")] = "1.0.0",
    vendor: Annotated[str, typer.Option(help="Who answers for it.")] = "graphopt",
    url: Annotated[str, typer.Option(help="Where it comes from.")] = "",
    json: Json = False,
) -> None:
    """Write firmware as a Zephyr module, an ESP-IDF component, a library for Arduino or PlatformIO, or a CMSIS-Pack.

    The folder has the layout that these build systems want, and a README.md that tells how it is added to a project.
    Make and CMake take the bundle as it is.

    Example: `graphopt package firmware --for zephyr -o modules/model`
    """
    from graphopt.report.tables import facts, show, show_json
    from graphopt.targets.bundle import Bundle
    from graphopt.targets.firmware.package import write_package

    opened = Bundle.open(bundle)
    place = out or Path(opened.name)
    files = write_package(opened, kind, place, version=version, vendor=vendor, url=url)
    if json:
        show_json({"path": str(place), "for": kind, "files": files})
    else:
        show(facts(str(place), {"files": ", ".join(files), "use it": "as its README.md says"}))
