"""The bundle on a machine without graphopt: from C and C++, CMake, pkg-config, and Python with numpy alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.ir import DType
from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import identifier
from graphopt.targets.bundle import Bundle
from graphopt.targets.bundle_text import text_files
from graphopt.targets.device import load_target
from graphopt.targets.header import tensor_identifiers
from tests.copy_model import EVERY_TYPE, abi_of, copy_bundle, random_arrays
from tests.targets.conftest import environment

STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow")


def run(command: Sequence[str | Path], folder: Path, **env: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Every element type, and names with spaces, quotes, umlauts, comment ends, equal once made plain."""
    return copy_bundle(tmp_path_factory.mktemp("odd") / "copied.bundle")


@pytest.fixture(params=["bundle", "odd"])
def any_bundle(request: pytest.FixtureRequest) -> Bundle:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("language", ["c99", "c11", "c++11", "c++20"])
def test_the_header_compiles_without_a_warning(any_bundle: Bundle, language: str, tmp_path: Path) -> None:
    name, plus = any_bundle.name, "+" in language
    macro = any_bundle.abi.macro
    (tmp_path / f"use.{'cpp' if plus else 'c'}").write_text(
        f'#include "{name}.h"\n#include "{name}.h"\n'
        f"static unsigned char workspace[{macro}_WORKSPACE_BYTES + 1];\n"
        f"int use(const void *const *in, void *const *out);\n"
        f"int use(const void *const *in, void *const *out) {{\n"
        f"    if ({name}_abi_version() != {macro}_ABI_VERSION) return {macro}_INPUTS + {macro}_OUTPUTS;\n"
        f"    return {name}_run(in, out, workspace, sizeof workspace, {macro}_DEFAULT_THREADS);\n}}\n"
    )
    zig = [sys.executable, "-m", "ziglang", "c++" if plus else "cc", *STRICT, f"-std={language}"]
    run([*zig, "-I", any_bundle.path, "-c", f"use.{'cpp' if plus else 'c'}", "-o", "use.o"], tmp_path)


def test_the_example_builds_as_the_readme_says(any_bundle: Bundle, zig_cc: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(any_bundle.path, tmp_path / "copied elsewhere"))
    command = (copy / "README.md").read_text().split("    cc ")[1].split("&&")[0]
    strict = " ".join(f for f in STRICT if f not in ("-Wconversion", "-Wshadow"))
    run(["sh", "-c", f'"{zig_cc}" {strict} -std=c11 {command}'], copy)
    assert_example_answers(copy / "example", any_bundle, tmp_path)


def test_pkg_config_finds_it(bundle: Bundle, zig_cc: Path, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")
    is_pkgconf = int(run(["pkg-config", "--version"], tmp_path).split(".")[0]) >= 1
    place = "some where" if is_pkgconf else "somewhere"  # freedesktop's does not escape its ${pcfiledir}
    copy = Path(shutil.copytree(bundle.path, tmp_path / place))
    flags = run(["pkg-config", "--cflags", "--libs", "tiny"], copy, PKG_CONFIG_PATH=str(copy))
    run(["sh", "-c", f'"{zig_cc}" example.c -o program {flags.strip()} -Wl,-rpath,"$PWD"'], copy)
    assert_example_answers(copy / "program", bundle, tmp_path)
    assert run(["pkg-config", "--modversion", "tiny"], copy, PKG_CONFIG_PATH=str(copy)).strip() == "1"


def test_cmake_finds_it(bundle: Bundle, zig_cc: Path, tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{environment().get('PATH', '')}")
    if cmake is None or shutil.which("make") is None:
        pytest.skip("cmake or make is not installed (pip install cmake)")
    copy = Path(shutil.copytree(bundle.path, tmp_path / "some where"))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\n"
        "project(user C)\n"
        "find_package(tiny 1 REQUIRED)\n"
        "find_package(tiny REQUIRED)\n"
        'add_executable(program "some where/example.c")\n'
        "target_link_libraries(program PRIVATE tiny::tiny)\n"
    )
    options = [f"-DCMAKE_C_COMPILER={zig_cc}", f"-DCMAKE_PREFIX_PATH={copy}", "-G", "Unix Makefiles"]
    run([cmake, "-S", ".", "-B", "build", *options], tmp_path)
    run([cmake, "--build", "build"], tmp_path)
    assert_example_answers(tmp_path / "build" / "program", bundle, tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.10)\nproject(user NONE)\nfind_package(tiny 2 REQUIRED)\n"
    )
    with pytest.raises(AssertionError, match=r"tinyConfig\.cmake, version: 1\s"):
        run([cmake, "-S", ".", "-B", "other", *options], tmp_path)


def assert_example_answers(program: Path, bundle: Bundle, folder: Path) -> None:
    """The program reads files of raw bytes and writes the very bytes that Module returns."""
    module = graphopt.Module(bundle.path)
    inputs = random_arrays(bundle.abi)
    names = []
    for index, spec in enumerate(bundle.abi.inputs):
        names.append(f"given_{index}.bin")
        (folder / names[-1]).write_bytes(inputs[spec.name].tobytes())
    said = run([program, "--threads", "2", "--repeat", "3", "--out", ".", *names], folder)
    assert "best of 3 runs: " in said
    for index, (name, array) in enumerate(module(inputs).items()):
        assert (folder / f"output_{index}.bin").read_bytes() == array.tobytes(), name
        assert name in said


def test_the_example_says_what_is_wrong(bundle: Bundle, zig_cc: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    run([zig_cc, "example.c", "-o", "example", "-L.", "-ltiny", "-Wl,-rpath,$ORIGIN"], copy)
    (copy / "short.bin").write_bytes(b"1234")
    cases = {
        ("missing.bin",): "missing.bin: cannot be opened",
        ("short.bin",): 'short.bin: must hold the 6912 bytes of input "image"',
        ("--speed", "9"): "--speed: no such option, or its value is missing",
        ("--threads", "x"): '--threads: "x" is no whole number from 0 to 1000000',
        ("--repeat", "3x"): '--repeat: "3x" is no whole number from 0 to 1000000',
        ("--repeat", ""): '--repeat: "" is no whole number from 0 to 1000000',
        ("--shape", "-1"): '--shape: "-1" is no whole number from 0 to 1000000',
        ("--shape", "1"): "1: the model has no shape of this number",
        ("--out", "/nowhere", "--repeat", "0"): "/nowhere/output_0.bin: cannot be written",
    }
    for arguments, message in cases.items():
        done = subprocess.run(["./example", *arguments], cwd=copy, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, f"{message}\n")


@pytest.fixture(scope="module")
def numpy_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that holds numpy and nothing else."""
    folder = tmp_path_factory.mktemp("packages")
    installed = Path(np.__file__).parent.parent
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder


def isolated(code: str, folders: Sequence[Path], arguments: Sequence[str], cwd: Path) -> str:
    """Run Python without the user's and the environment's packages, with `folders` alone."""
    start = f"import sys; sys.path[:0] = {[str(f) for f in folders]!r}\n"
    return run([sys.executable, "-I", "-S", "-B", "-c", start + code, *arguments], cwd)


def test_python_needs_numpy_alone(any_bundle: Bundle, numpy_alone: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(any_bundle.path, tmp_path / "copy"))
    inputs = random_arrays(any_bundle.abi)
    expected = graphopt.Module(any_bundle.path)(inputs)
    for index, array in enumerate(inputs.values()):
        np.save(tmp_path / f"in{index}.npy", array.view(np.uint16) if array.dtype.kind == "V" else array)
    code = (
        "import importlib.util\n"
        "assert not any(map(importlib.util.find_spec, ('graphopt', 'onnx', 'tvm', 'ml_dtypes')))\n"
        f"import numpy as np, {any_bundle.name} as made\n"
        "model = made.Model(threads=2)\n"
        "arrays = [np.load(f'in{i}.npy') for i in range(len(model.inputs))]\n"
        "first = model.run(*arrays)\n"
        "second = model.run(**{t.name: a for t, a in zip(model.inputs, arrays)})\n"
        "for i, (name, array) in enumerate(first.items()):\n"
        "    assert array.tobytes() == second[name].tobytes(), name\n"
        "    open(f'out{i}.bin', 'wb').write(array.tobytes())\n"
        "print([t.name for t in model.outputs])\n"
    )
    said = isolated(code, [numpy_alone, copy], [], tmp_path)
    assert said.strip() == repr(list(expected))
    for index, (name, array) in enumerate(expected.items()):
        assert (tmp_path / f"out{index}.bin").read_bytes() == array.tobytes(), name


def test_the_readme_call_works(any_bundle: Bundle, numpy_alone: Path, tmp_path: Path) -> None:
    text = (any_bundle.path / "README.md").read_text().split("with numpy alone:")[1]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    code = "\n".join([*lines, "print(len(outputs))\n"])
    said = isolated(code, [numpy_alone, any_bundle.path], [], tmp_path)
    assert said.strip() == str(len(any_bundle.abi.outputs))


@pytest.mark.parametrize(
    ("target", "compiler"),
    [("rpi4", "aarch64-linux-gnu-gcc"), ("rpi-armv7", "arm-linux-gnueabihf-gcc"), ("x86-64-v3", None)],
)
def test_the_readme_names_a_compiler_of_another_machine(
    bundle: Bundle, target: str, compiler: str | None
) -> None:
    text = text_files(bundle.abi, load_target(target))["README.md"].decode()
    assert re.findall(r"`([\w-]+-gcc)`", text) == ([compiler] if compiler else [])
    assert "--shape" not in text


def test_the_readme_tells_how_another_shape_is_run(bundle: Bundle) -> None:
    abi = replace(bundle.abi, shapes=bundle.abi.shapes * 3)
    text = text_files(abi, load_target("rpi4"))["README.md"].decode()
    assert "`./example --shape N` takes shape N, from 0 to 2." in text


def test_python_says_what_is_wrong(bundle: Bundle, numpy_alone: Path, tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from tiny import Model\n"
        "model = Model()\n"
        "image, prior = (np.zeros(t.shape, t.dtype) for t in model.inputs)\n"
        "for args, named in [((image,), {}), ((image, prior, prior), {}), ((), {'imag': image}),\n"
        "                    ((image,), {'image': image}), ((image, prior.astype(int)), {}),\n"
        "                    ((image, prior[0]), {})]:\n"
        "    try: model.run(*args, **named)\n"
        "    except (TypeError, ValueError) as error: print(error)\n"
    )
    said = isolated(code, [numpy_alone, bundle.path], [], tmp_path).splitlines()
    assert said == [
        "missing input 'prior'",
        "3 inputs given, the model has 2: ['image', 'prior']",
        "the model has no input 'imag'; its inputs are ['image', 'prior']",
        "input 'image' is given twice",
        "input 'prior' is int64, the model wants float32; convert it with .astype(np.float32)",
        "input 'prior' has shape [10], the model wants [1, 10]",
    ]


def test_a_library_of_another_machine_is_told(tmp_path: Path, numpy_alone: Path) -> None:
    foreign = "rpi4" if graphopt.targets.device.load_target("host").family == "x86" else "x86-64-v2"
    made = copy_bundle(tmp_path / "foreign.bundle", target=foreign)
    code = "from copied import Model\ntry: Model()\nexcept OSError as error: print(error)\n"
    said = isolated(code, [numpy_alone, made.path], [], tmp_path)
    assert "libcopied.so cannot be loaded; it was compiled for " in said
    with pytest.raises(graphopt.GraphoptError, match=f"compiled for {foreign}, and this machine is"):
        graphopt.Module(made.path)


def test_names_become_distinct_identifiers(odd: Bundle) -> None:
    names = tensor_identifiers(odd.abi.inputs)
    assert len(set(names)) == len(EVERY_TYPE)
    assert all(name.isascii() and name.isidentifier() and name == name.upper() for name in names)
    assert {"A_0", "A_0_9"} <= set(names)
    header = odd.header.read_text()
    assert all(f"#define COPIED_IN_{name} {index}\n" in header for index, name in enumerate(names))


@pytest.mark.parametrize("name", ["m", "c", "dl", "pthread", "string", "json"])
def test_a_model_hides_no_standard_library(name: str) -> None:
    """`-lm` in the directory of libm.so would link the model instead of the mathematics."""
    assert identifier(name) == f"m_{name}"


def test_reserved_words_can_be_names(zig_cc: Path, tmp_path: Path) -> None:
    """Tensors and a model called as C, C++ and Python call their own things."""
    words = ("int", "class", "lambda", "0", "", "__import__", "self", "NULL")
    specs = tuple(Tensor(word, DType.float32, (2,)) for word in words)
    bundle = copy_bundle(tmp_path / "b", abi_of(specs, name="m_string"))
    module = graphopt.Module(bundle.path)
    inputs = {word: np.full(2, index, np.float32) for index, word in enumerate(words)}
    for (name, array), value in zip(module(inputs).items(), inputs.values(), strict=True):
        assert np.array_equal(array, value), name
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    run([zig_cc, *STRICT[:3], "example.c", "-o", "example", "-L.", "-lm_string", "-Wl,-rpath,$ORIGIN"], copy)
    assert_example_answers(copy / "example", bundle, tmp_path)
