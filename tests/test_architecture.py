"""The house rules: who may import whom (the table of docs/design.md), what stays unloaded, names that agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "graphopt": ROOT / "graphopt",
    "graphopt.passes": ROOT / "passes",
    "graphopt.targets": ROOT / "targets",
}
HEAVY = ("tvm", "networkx", "typer", "rich", "onnx", "ziglang")


@dataclass(frozen=True)
class Layer:
    """One row of the table: its packages, and the names of the layers below that it may import."""

    name: str
    packages: tuple[str, ...]
    allowed: frozenset[str]
    uses_tvm: bool


def layers() -> dict[str, Layer]:
    """The table under "Who may import whom", top row first."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text.split("## Who may import whom")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    rows = [row for row in rows if "`" in row[1]]
    names = [name for name, _, _ in rows]
    table = {}
    for index, (name, packages, words) in enumerate(rows):
        below = names[index:] if words == "all below" else re.split(", ", words)
        allowed = frozenset(below) & frozenset(names) | {name}
        table[name] = Layer(name, tuple(re.findall(r"`([\w.]+)`", packages)), allowed, "TVM" in words)
    return table


def modules() -> dict[str, Path]:
    """Every module of the package, wherever its folder is."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """(imported module, line) for every import statement, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in MODULES else node.module), node.lineno


def layer_of(module: str) -> Layer | None:
    """The layer of the longest package that holds `module`; `graphopt` itself holds no others."""
    fitting = [
        (len(package), layer)
        for layer in LAYERS.values()
        for package in layer.packages
        if module == package or (package != "graphopt" and module.startswith(f"{package}."))
    ]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


MODULES = modules()
LAYERS = layers()


def test_the_table_is_read() -> None:
    assert list(LAYERS) == ["façade", "targets", "passes", "core"]
    assert LAYERS["core"].allowed == {"core"}
    assert LAYERS["targets"].allowed == {"targets", "core"} and LAYERS["targets"].uses_tvm
    assert LAYERS["façade"].allowed == {"façade", "targets", "passes", "core"}
    assert layer_of("graphopt.passes.fold_pad") is LAYERS["passes"]
    assert layer_of("graphopt.unheard") is None


def test_every_module_is_in_the_table() -> None:
    assert [name for name in MODULES if layer_of(name) is None] == []


def test_no_arrow_points_up() -> None:
    wrong = []
    for module, path in MODULES.items():
        layer = layer_of(module)
        for imported, line in imports(module, path):
            other = layer_of(imported)
            if layer and other and other.name not in layer.allowed:
                wrong.append(
                    f"{path.relative_to(ROOT)}:{line}: {layer.name} imports {imported} ({other.name})"
                )
    assert wrong == []


def test_tvm_stays_in_its_layer() -> None:
    wrong = []
    for module, path in MODULES.items():
        layer = layer_of(module)
        for imported, line in imports(module, path):
            if imported.split(".")[0] in ("tvm", "tvm_ffi") and not (layer and layer.uses_tvm):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {imported}")
    assert wrong == []


def test_protobuf_is_seen_by_few() -> None:
    """The passes speak our IR alone."""
    for module, path in MODULES.items():
        if module.startswith(("graphopt.passes", "graphopt.ir", "graphopt.rewrite", "graphopt.targets")):
            found = [name for name, _ in imports(module, path) if name.split(".")[0] == "onnx"]
            assert found == [], path


def loaded_after(statements: str) -> set[str]:
    """Top-level packages in `sys.modules` once a fresh interpreter has run `statements`."""
    code = f"{statements}\nimport sys\nsys.stderr.write(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


def test_import_is_cheap() -> None:
    assert loaded_after("import graphopt").isdisjoint({*HEAVY, "numpy"})
    assert loaded_after("import graphopt.api").isdisjoint({"tvm", "networkx", "typer", "rich", "ziglang"})


def test_inspect_does_not_load_tvm() -> None:
    model = ROOT / "examples" / "digits" / "digits.onnx"
    command = f"from graphopt.cli import main; assert main(['inspect', {str(model)!r}]) == 0"
    loaded = loaded_after(command)
    assert "typer" in loaded
    assert loaded.isdisjoint({"tvm", "tvm_ffi", "ziglang", "onnxruntime"})


def test_supported_operators_are_those_with_a_lowering() -> None:
    from graphopt.targets.lower import LOWERINGS, OPAQUE
    from graphopt.targets.lower.support import OPAQUE_OPERATORS, SUPPORTED, TEMPLATED

    assert set(OPAQUE) - set(LOWERINGS) == OPAQUE_OPERATORS & SUPPORTED
    assert set(LOWERINGS) | set(OPAQUE) | TEMPLATED == set(SUPPORTED)


@pytest.mark.parametrize("statement", ["import passes", "from targets import fuse"])
def test_a_bare_import_is_banned(statement: str) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", str(ROOT / "bench" / "x.py"), "-"]
    done = subprocess.run(command, input=f"{statement}\n", capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "TID251" in done.stdout
