"""Packages of a firmware bundle, each in the layout that a build system of firmware wants.

Headers are in `include`, sources and the model's own header in `src`; Arduino has all in `src`. Weights are C, which
every one of them builds. What the folder holds beside the files of the bundle is in `packages/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import UnsupportedError, UsageError, did_you_mean
from graphopt.targets.bundle import Bundle, put_folder
from graphopt.targets.firmware.arenas import definitions, given
from graphopt.targets.firmware.packages import render

VERSION = "1.0.0"
VENDOR = "graphopt"
SEMANTIC = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]*")
CSUB_LENGTH = 32
"""Characters that a part of a component's name may have in a CMSIS-Pack."""


@dataclass(frozen=True)
class Package:
    """A bundle, and what packages tell of themselves."""

    bundle: Bundle
    version: str = VERSION
    vendor: str = VENDOR
    url: str = ""

    @property
    def facts(self) -> dict[str, str]:
        abi, target = self.bundle.abi, self.bundle.target
        told = f"The neural network {abi.name} as C for {target.name}, compiled by graphopt."
        texts = {"VERSION": self.version, "VENDOR": self.vendor, "URL": self.url, "DESCRIPTION": told}
        texts["ARENAS_INDENTED"] = "\n    ".join(definitions(abi, spare=1))
        texts |= {"ARENAS": "\n".join(definitions(abi, spare=1)), "GIVEN": ", ".join(given(abi))}
        return {"MODEL": abi.name, "MACRO": abi.macro, **texts}

    @property
    def sources(self) -> list[str]:
        return sorted(name for name in self.bundle.manifest["files"] if name.endswith(".c"))

    def copied(self, public: str, private: str) -> dict[str, bytes]:
        """The bundle's files: the interface in the folder `public`, the others in `private`."""
        header = self.bundle.header.name
        others = [name for name in self.bundle.manifest["files"] if name.endswith((".c", ".h"))]
        places = {name: f"{public if name == header else private}/{name}" for name in others}
        files = {place: (self.bundle.path / name).read_bytes() for name, place in places.items()}
        return {**files, "memory.md": (self.bundle.path / "memory.md").read_bytes()}

    def filled(self, texts: Mapping[str, str], **more: str) -> dict[str, bytes]:
        """Files by their place, from the names of their templates."""
        facts = {**self.facts, **more}
        return {place: render(template, facts).encode() for place, template in texts.items()}

    def listed(self, indent: int) -> str:
        """The sources for a list in CMake."""
        return f"\n{' ' * indent}".join(f"src/{name}" for name in self.sources)


def write_package(bundle: Bundle, kind: str, out: Path, **told: str) -> list[str]:
    """Write the package of that kind into the folder `out`; returns the files. `told`: see `Package`.

    Raises UsageError for a bundle that is no firmware, an unknown kind, a version or vendor that packages cannot have,
    and a folder that holds anything; UnsupportedError where the kind is not for the bundle's core.
    """
    if not bundle.target.is_firmware:
        hint = "compile for a microcontroller, such as --target cortex-m4f"
        raise UsageError("packages are of firmware", where=str(bundle.path), hint=hint)
    if kind not in PACKAGES:
        hint = did_you_mean(kind, PACKAGES, f"one of {', '.join(PACKAGES)}")
        raise UsageError(f"there is no package for '{kind}'", hint=hint)
    package = Package(bundle, **told)
    if not SEMANTIC.fullmatch(package.version):
        raise UsageError(f"'{package.version}' is no version", where="version", hint="such as 1.0.0")
    if not NAMES.fullmatch(package.vendor):
        hint = "letters, digits, spaces, points, dashes"
        raise UsageError(f"'{package.vendor}' is no name of a vendor", where="vendor", hint=hint)
    if re.search(r"[\s<>\"&]", package.url):
        raise UsageError(f"'{package.url}' is no address", where="url", hint="such as https://example.com")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("it exists and is not empty", where=str(out), hint="name another folder with -o")
    files = PACKAGES[kind](package)
    put_folder(out, files)
    return sorted(files)


def zephyr(package: Package) -> dict[str, bytes]:
    """A module: the build finds it by `ZEPHYR_EXTRA_MODULES` or west's manifest, Kconfig switches it on."""
    texts = {
        "zephyr/module.yml": "zephyr_module.yml.in",
        "zephyr/Kconfig": "zephyr_kconfig.in",
        "CMakeLists.txt": "zephyr_cmakelists.txt.in",
    }
    use = (
        "Build with `-DZEPHYR_EXTRA_MODULES=FOLDER`, or name the folder in west's manifest, and put\n"
        f"`CONFIG_GRAPHOPT_{package.bundle.abi.macro}=y` into `prj.conf`."
    )
    made = package.filled(texts, SOURCES=package.listed(8))
    return {**package.copied("include", "src"), **made, **_readme(package, "a Zephyr module", use)}


def esp_idf(package: Package) -> dict[str, bytes]:
    """A component: its folder's name is what others require."""
    texts = {"CMakeLists.txt": "esp_idf_cmakelists.txt.in", "idf_component.yml": "esp_idf_component.yml.in"}
    name = package.bundle.name
    use = f"Copy it to `components/{name}` of a project, and name `{name}` among the `REQUIRES` of `main`."
    made = package.filled(texts, SOURCES=package.listed(8))
    return {**package.copied("include", "src"), **made, **_readme(package, "an ESP-IDF component", use)}


def arduino(package: Package) -> dict[str, bytes]:
    """A library of the layout with `src`, all of which is compiled."""
    texts = {
        "library.properties": "arduino_library.properties.in",
        "examples/selftest/selftest.ino": "arduino_selftest.ino.in",
    }
    use = (
        f"Copy it to `libraries/{package.bundle.name}` of the sketchbook. The example `selftest` runs the self-test\n"
        "and measures it."
    )
    made = package.filled(texts)
    return {**package.copied("src", "src"), **made, **_readme(package, "an Arduino library", use)}


def platformio(package: Package) -> dict[str, bytes]:
    """A library for any platform and framework."""
    texts = {"library.json": "platformio_library.json.in"}
    use = f"Copy it to `lib/{package.bundle.name}` of a project, or name its folder among `lib_deps`."
    made = package.filled(texts)
    return {**package.copied("include", "src"), **made, **_readme(package, "a PlatformIO library", use)}


def cmsis_pack(package: Package) -> dict[str, bytes]:
    """What a software pack holds; its description is named by vendor and name.

    Raises UnsupportedError for a core that is not Arm's, UsageError for a vendor with a space or a point.
    """
    target, name = package.bundle.target, package.bundle.name
    if target.family != "arm":
        hint = "the packages for Zephyr, PlatformIO and ESP-IDF are for any"
        raise UnsupportedError("CMSIS-Packs are for Arm's cores", where=f"target {target.name}", hint=hint)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", package.vendor):
        hint = "letters, digits, dashes"
        raise UsageError(f"'{package.vendor}' is no vendor of a pack", where="vendor", hint=hint)
    core = re.sub(r"^cortex-m(\d+)(plus)?.*", lambda m: f"Cortex-M{m[1]}{'+' if m[2] else ''}", target.cpu)
    files = "\n        ".join(f'<file category="source" name="src/{source}"/>' for source in package.sources)
    told = {"DCORE": core, "CSUB": name[:CSUB_LENGTH], "FILES": files}
    made = package.filled({f"{package.vendor}.{name}.pdsc": "cmsis_pack.pdsc.in"}, **told)
    use = (
        f"Zip it as `{package.vendor}.{name}.{package.version}.pack`, or add its description as a local pack:\n"
        f"`cpackget add {package.vendor}.{name}.pdsc`. The component is Machine Learning:Model:{told['CSUB']}."
    )
    return {**package.copied("include", "src"), **made, **_readme(package, "a CMSIS-Pack", use)}


def _readme(package: Package, kind: str, use: str) -> dict[str, bytes]:
    return package.filled({"README.md": "readme.md.in"}, KIND=kind, USE=use)


PACKAGES: dict[str, Callable[[Package], dict[str, bytes]]] = {
    "zephyr": zephyr,
    "esp-idf": esp_idf,
    "arduino": arduino,
    "platformio": platformio,
    "cmsis-pack": cmsis_pack,
}
"""What a package is for -> its files by their place in the folder."""
