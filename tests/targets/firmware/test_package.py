"""Packages for other build systems: what each says of itself, and a program that is built as that system would.

Zephyr and ESP-IDF are CMake; a few functions stand in for theirs. The program runs the self-test on a board under QEMU.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphopt.errors import UnsupportedError, UsageError
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware import board as board_files
from graphopt.targets.firmware.build import linker_script
from graphopt.targets.firmware.package import PACKAGES, write_package
from tests.targets.conftest import environment, runnable
from tests.targets.firmware.conftest import Firmware

CORE = "cortex-m3"
ON_CORE = [pytest.param(CORE, marks=runnable(CORE))]
MAIN = """\
#include <net.h>
static unsigned char arena[NET_ARENA_BYTES + 1] NET_ALIGNED;
int main(void) { return net_selftest(arena, sizeof arena); }
"""
CATEGORIES = (
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
    "Data Processing", "Other",
)  # fmt: skip
"""Of Arduino's libraries."""

LINK = ["-nostartfiles", "-T", "link.ld", "-Wl,--gc-sections"]

TOOLCHAIN = """\
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m3 -mthumb")
set(CMAKE_ASM_FLAGS_INIT "-mcpu=cortex-m3 -mthumb")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""
PROJECT = """\
cmake_minimum_required(VERSION 3.20)
project(application {languages})
{package}
add_executable(program main.c start_arm.c)
target_link_libraries(program PRIVATE {library})
target_link_options(program PRIVATE -nostartfiles -T ${{CMAKE_SOURCE_DIR}}/link.ld -Wl,--gc-sections)
"""
ZEPHYR = """\
add_library(zephyr_interface INTERFACE)
function(zephyr_include_directories folder)
    target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
endfunction()
macro(zephyr_library_named name)
    set(ZEPHYR_CURRENT_LIBRARY ${name})
    add_library(${name} STATIC)
    target_link_libraries(${name} PUBLIC zephyr_interface)
endmacro()
macro(zephyr_library_include_directories)
    target_include_directories(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_sources)
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
    target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
set(CONFIG_GRAPHOPT_NET y)
add_subdirectory(package)
"""
ESP_IDF = """\
function(idf_component_register)
    cmake_parse_arguments(given "" "" "SRCS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS" ${ARGN})
    get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    add_library(${name} STATIC ${given_SRCS})
    target_include_directories(${name} PUBLIC ${given_INCLUDE_DIRS} PRIVATE ${given_PRIV_INCLUDE_DIRS})
    set(COMPONENT_LIB ${name} PARENT_SCOPE)
endfunction()
add_subdirectory(package)
"""
BY_CMAKE = {
    "add_subdirectory": ("C ASM", "add_subdirectory(package)", "net::net"),
    "add_subdirectory, weights as C": ("C", "add_subdirectory(package)", "net::net"),
    "find_package": (
        "C ASM",
        "find_package(net REQUIRED PATHS package NO_DEFAULT_PATH)\nfind_package(net REQUIRED PATHS package)",
        "net::net",
    ),
    "zephyr": ("C", ZEPHYR, "graphopt_net"),
    "esp-idf": ("C", ESP_IDF, "package"),
}


def prepared(bundle: Bundle, kind: str, folder: Path) -> Path:
    """A folder with a program's own files, and in `package` what is asked for: a package, or the bundle itself."""
    board = load_target(bundle.target.emulator_board)
    board_files.copy_to(folder, bundle.target.family)
    (folder / "link.ld").write_text(linker_script(board))
    (folder / "main.c").write_text(MAIN)
    package = folder / "package"
    if kind in PACKAGES:
        write_package(bundle, kind, package)
    else:
        shutil.copytree(bundle.path, package)
    return package


def passes(program: Path, bundle: Bundle) -> bool:
    """Whether the program ends with 0 on the bundle's board."""
    options = "-nographic -monitor none -serial none -semihosting-config enable=on,target=native".split()
    command = [bundle.target.emulator, "-M", bundle.target.emulator_board, *options, "-kernel", str(program)]
    return subprocess.run(command, timeout=60).returncode == 0


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr.lower(), f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("core", ON_CORE)
@pytest.mark.parametrize("way", BY_CMAKE)
def test_cmake_builds_it(digits_int8: Firmware, core: str, way: str, tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{environment().get('PATH', '')}")
    if cmake is None or shutil.which("make") is None:
        pytest.skip("cmake or make is not installed (pip install cmake)")
    bundle = digits_int8(core)
    prepared(bundle, way, tmp_path)
    languages, package, library = BY_CMAKE[way]
    text = PROJECT.format(languages=languages, package=package, library=library)
    (tmp_path / "CMakeLists.txt").write_text(text)
    (tmp_path / "toolchain.cmake").write_text(TOOLCHAIN)
    options = ["-DCMAKE_TOOLCHAIN_FILE=toolchain.cmake", "-G", "Unix Makefiles"]
    run([cmake, "-S", ".", "-B", "build", *options], tmp_path)
    run([cmake, "--build", "build"], tmp_path)
    assert passes(tmp_path / "build" / "program", bundle)


def arduino_flags(package: Path) -> list[str]:
    """All of `src` is compiled, with that folder among those of headers."""
    return ["-Os", f"-I{package}/src", *map(str, sorted((package / "src").rglob("*.c")))]


def platformio_flags(package: Path) -> list[str]:
    told = json.loads((package / "library.json").read_text())["build"]
    folders = [f"-I{package}/{told[key]}" for key in ("includeDir", "srcDir")]
    sources = sorted((package / told["srcDir"]).rglob("*.c"))
    return ["-Os", *told["flags"].split(), *folders, *map(str, sources)]


def pack_flags(package: Path) -> list[str]:
    files = ElementTree.parse(package / "graphopt.net.pdsc").getroot().iter("file")
    named = [(f.attrib["category"], f"{package}/{f.attrib['name']}") for f in files]
    assert all(Path(place).exists() for _, place in named)
    folders = [f"-I{place}" for category, place in named if category == "include"]
    return ["-Os", *folders, *(place for category, place in named if category == "source")]


@pytest.mark.parametrize("core", ON_CORE)
@pytest.mark.parametrize(
    ("kind", "flags"),
    [("arduino", arduino_flags), ("platformio", platformio_flags), ("cmsis-pack", pack_flags)],
    ids=["arduino", "platformio", "cmsis-pack"],
)
def test_the_layout_builds(digits_int8: Firmware, core: str, kind: str, flags, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundle = digits_int8(core)
    given = flags(prepared(bundle, kind, tmp_path))
    compiler = [f"{bundle.target.gcc}gcc", *bundle.target.gcc_flags, "-ffunction-sections", "-fdata-sections"]
    headers = [flag for flag in given if flag.startswith("-I")]
    run([*compiler, *given, *headers, "main.c", "start_arm.c", *LINK, "-lm", "-o", "program"], tmp_path)
    assert passes(tmp_path / "program", bundle)


@pytest.fixture
def packages(digits: Firmware, tmp_path: Path) -> Path:
    """All of them, by the name of their kind."""
    for kind in PACKAGES:
        write_package(
            digits(CORE), kind, tmp_path / kind, version="2.1.0", vendor="acme", url="https://acme.org/net"
        )
    return tmp_path


def test_arduino_is_told_what_its_specification_wants(packages: Path) -> None:
    """Arduino library specification 1.5, revision 2.2."""
    lines = (packages / "arduino" / "library.properties").read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines)
    wanted = "name version author maintainer sentence paragraph category url architectures".split()
    assert set(wanted) <= set(told) and all(told.values())
    assert re.fullmatch(r"[A-Za-z0-9][\w .-]*", told["name"]) and re.fullmatch(
        r"\d+\.\d+\.\d+", told["version"]
    )
    assert told["category"] in CATEGORIES
    assert not told["sentence"].startswith("Arduino") and told["architectures"] == "*"
    assert (packages / "arduino" / "src" / told["includes"]).is_file()
    assert (packages / "arduino" / "examples" / "selftest" / "selftest.ino").is_file()


def test_zephyr_is_told_what_its_schema_wants(packages: Path) -> None:
    """`scripts/schemas/module-schema.yaml`: `build.cmake` has a CMakeLists.txt, `build.kconfig` is a file."""
    text = (packages / "zephyr" / "zephyr" / "module.yml").read_text()
    told = dict(re.findall(r"^ *(\w+): (\S+)$", text, re.MULTILINE))
    assert told == {"name": "net", "cmake": ".", "kconfig": "zephyr/Kconfig"}
    kconfig = (packages / "zephyr" / told["kconfig"]).read_text()
    (symbol,) = re.findall(r"^config (\w+)\n\tbool \".+\"\n\thelp\n\t  \S", kconfig, re.MULTILINE)
    assert f"if(CONFIG_{symbol})" in (packages / "zephyr" / told["cmake"] / "CMakeLists.txt").read_text()


def test_platformio_is_told_what_its_schema_wants(packages: Path) -> None:
    told = json.loads((packages / "platformio" / "library.json").read_text())
    assert told["name"] == "net" and len(told["description"]) <= 255 and told["version"] == "2.1.0"
    known = "name version description keywords frameworks platforms headers build".split()
    assert set(told) == set(known) and set(told["build"]) == {"includeDir", "srcDir", "flags"}
    assert (packages / "platformio" / told["build"]["includeDir"] / told["headers"]).is_file()


def test_esp_idf_is_told_what_its_manifest_wants(packages: Path) -> None:
    text = (packages / "esp-idf" / "idf_component.yml").read_text()
    told = dict(re.findall(r'^(\w+): "(.*)"$', text, re.MULTILINE))
    assert set(told) == {"version", "description"} and told["version"] == "2.1.0"


def test_a_pack_is_told_what_its_schema_wants(packages: Path) -> None:
    """PACK.xsd 1.7: elements that must be there, the lengths and letters of names."""
    root = ElementTree.parse(packages / "cmsis-pack" / "acme.net.pdsc").getroot()
    assert root.tag == "package" and re.fullmatch(r"1\.\d+\.\d+", root.attrib["schemaVersion"])
    texts = {child.tag: (child.text or "").strip() for child in root}
    assert {"vendor", "name", "description", "url", "releases", "conditions", "components"} <= set(texts)
    assert all(re.fullmatch(r"[-\w]+", texts[tag]) for tag in ("vendor", "name"))
    (component,) = root.iter("component")
    parts = [component.attrib[key] for key in ("Cclass", "Cgroup")]
    assert all(re.fullmatch(r"[A-Za-z0-9][\w+()'/\-\s.]+", part) and len(part) <= 32 for part in parts)
    (condition,) = root.iter("condition")
    assert component.attrib["condition"] == condition.attrib["id"]
    assert [r.attrib for r in condition.iter("require")] == [{"Dcore": "Cortex-M3"}]
    assert {f.attrib["category"] for f in root.iter("file")} == {"doc", "include", "header", "source"}


def test_what_cannot_be_packed_is_refused(digits: Firmware, tmp_path: Path) -> None:
    bundle = digits(CORE)
    with pytest.raises(UsageError, match="there is no package for 'zephir'") as error:
        write_package(bundle, "zephir", tmp_path / "out")
    assert "zephyr" in str(error.value.hint)
    for told, message in (
        ({"version": "1"}, "no version"),
        ({"vendor": "a<b"}, "no name"),
        ({"url": "a b"}, "address"),
    ):
        with pytest.raises(UsageError, match=message):
            write_package(bundle, "arduino", tmp_path / "out", **told)
    with pytest.raises(UsageError, match="no vendor of a pack"):
        write_package(bundle, "cmsis-pack", tmp_path / "out", vendor="Acme Inc.")
    with pytest.raises(UnsupportedError, match="CMSIS-Packs are for Arm's cores"):
        write_package(digits("rv32imac"), "cmsis-pack", tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_package(bundle, "zephyr", tmp_path / "taken")
    assert not (tmp_path / "out").exists() and len(list((tmp_path / "taken").iterdir())) == 1
