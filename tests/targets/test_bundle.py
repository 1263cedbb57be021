"""The folder that goes to the device: what is in it, that it is true, and that it is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from bench.oracles import onnx_runtime
from graphopt.errors import GraphoptError, ToolchainError, UsageError
from graphopt.runtime.compare import compare_outputs
from graphopt.targets import aot
from graphopt.targets.bundle import Bundle
from tests.copy_model import abi_of, copy_bundle
from tests.targets.conftest import Compile, environment

Samples = list[dict[str, np.ndarray]]

FILES = {
    "README.md",
    "example.c",
    "libtiny.so",
    "manifest.json",
    "report.json",
    "tiny.h",
    "tiny.onnx",
    "tiny.pc",
    "tiny.py",
    "tinyConfig.cmake",
    "tinyConfigVersion.cmake",
}

FLOAT_STEPS = 2 * (27 + 9 + 121 + 16 + 10) * float(np.finfo(np.float32).eps)
"""Allowed difference, as a share of the output's scale: both sides round once for each term of the sums that
follow one another (two convolutions, mean, matrix product, softmax)."""


def test_what_is_in_it(bundle: Bundle) -> None:
    assert {path.name for path in bundle.path.iterdir()} == FILES
    assert set(bundle.manifest["files"]) == FILES - {"manifest.json"}


def test_the_manifest_tells_the_truth(bundle: Bundle, tiny_model: Path) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        data = (bundle.path / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    source = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert manifest["source"] == {"file": "tiny.onnx", "sha256": source}
    assert set(manifest["versions"]) == {"graphopt", "apache-tvm", "onnx", "ziglang"}
    assert manifest["target"]["name"] == "host"
    contract = manifest["contract"]
    assert [(t["name"], t["shape"]) for t in contract["inputs"]] == [
        ("image", [1, 3, 24, 24]),
        ("prior", [1, 10]),
    ]
    assert [t["name"] for t in contract["outputs"]] == ["probabilities", "features"]
    assert contract["workspace_bytes"] > 0


def test_the_report_tells_where_layers_come_from(bundle: Bundle) -> None:
    report = json.loads((bundle.path / "report.json").read_text())
    origins = {name for layer in report["layers"] for name in layer["origin"]}
    assert {"first", "normal", "positive", "depthwise", "classify", "normalise"} <= origins
    first = 16 * 24 * 24 * 3 * 9
    depthwise = 16 * 11 * 11 * 9
    macs = {tuple(layer["operators"]): layer["macs"] for layer in report["layers"]}
    assert first in macs.values() and report["summary"]["macs"] >= first + depthwise + 160
    assert all(layer["read_bytes"] > 0 and layer["written_bytes"] > 0 for layer in report["layers"])


def test_it_answers_as_the_model_does(bundle: Bundle, tiny_model: Path, tiny_samples: Samples) -> None:
    oracle, module = onnx_runtime(tiny_model), graphopt.Module(bundle.path)
    for sample in tiny_samples:
        compare_outputs(oracle(sample), module(sample)).raise_if_worse_than(FLOAT_STEPS)


def test_the_optimised_model_answers_so_too(bundle: Bundle, tiny_model: Path, tiny_samples: Samples) -> None:
    assert bundle.optimized is not None
    model = onnx.load(bundle.optimized)
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    before, after = onnx_runtime(tiny_model), onnx_runtime(bundle.optimized)
    for sample in tiny_samples:
        compare_outputs(before(sample), after(sample)).raise_if_worse_than(FLOAT_STEPS)


def test_same_input_same_bytes(compiled: Compile, tiny_model: Path, tmp_path: Path) -> None:
    """Another process, hash seed, folder and working directory; only the model and its name stay."""
    code = (
        "import sys, graphopt\n"
        "for target in sys.argv[2:]: graphopt.compile(sys.argv[1], target=target, out=f'other {target}')\n"
    )
    targets = ("host", "rpi4", "rpi-armv7")
    command = [sys.executable, "-c", code, str(tiny_model), *targets]
    changed = environment(PYTHONHASHSEED="12345", TMPDIR=str(tmp_path), LC_ALL="C", TZ="Asia/Tokyo")
    subprocess.run(command, cwd=tmp_path, env=changed, check=True)
    for target in targets:
        once, again = compiled(target).path, tmp_path / f"other {target}"
        differing = [name for name in FILES if (once / name).read_bytes() != (again / name).read_bytes()]
        assert differing == []


def test_no_path_of_this_machine_is_inside(bundle: Bundle, tiny_model: Path) -> None:
    for folder in {str(Path.home()), str(tiny_model.parent), str(Path(sys.prefix)), str(bundle.path.parent)}:
        for path in bundle.path.iterdir():
            assert folder == "/" or folder.encode() not in path.read_bytes(), path.name


class Stop(Exception):
    """Something that goes wrong in the middle."""


@pytest.mark.parametrize("error", [ToolchainError("no space left"), Stop()])
def test_nothing_half_written_is_left(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(aot, "link", fail)
    with pytest.raises(type(error)):
        graphopt.compile(tiny_model, out=tmp_path / "new" / "tiny.bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "copied.bundle"
    before = contents(copy_bundle(place))
    write = Path.write_bytes

    def fills_up(self: Path, data: bytes) -> int:
        if self.name == "manifest.json":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.raises(UsageError, match=r"cannot be written: No space left on device"):
        copy_bundle(place, factor=2)
    monkeypatch.undo()
    assert contents(Bundle.open(place)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copied.bundle"]


def test_a_bundle_replaces_a_bundle(tmp_path: Path) -> None:
    place = tmp_path / "copied.bundle"
    before = contents(copy_bundle(place))
    after = contents(copy_bundle(place, factor=2))
    assert set(before) == set(after) and before["libcopied.so"] != after["libcopied.so"]
    assert contents(copy_bundle(place)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copied.bundle"]


def test_what_is_no_bundle_stays(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="the folder exists and is not a bundle"):
        copy_bundle(place)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="it is a file, not a folder"):
        copy_bundle(tmp_path / "file")
    assert (place / "thesis.txt").read_text() == "years of work"


def test_what_was_added_or_changed_stays(tmp_path: Path) -> None:
    place = tmp_path / "copied.bundle"
    copy_bundle(place)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt would be lost"):
        copy_bundle(place)
    (place / "notes.txt").unlink()
    (place / "example.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(UsageError, match=r"example\.c would be lost"):
        copy_bundle(place)
    with pytest.raises(UsageError, match=r"missing, or changed since the bundle was written: example\.c"):
        Bundle.open(place)


def test_a_cut_library_is_refused(tmp_path: Path) -> None:
    bundle = copy_bundle(tmp_path / "copied.bundle")
    bundle.library.write_bytes(bundle.library.read_bytes()[:-100])
    with pytest.raises(GraphoptError, match="it is not the library that its manifest names"):
        graphopt.Module(bundle.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"not a bundle: manifest\.json cannot be read"),
        ("{", r"not a bundle: manifest\.json is damaged"),
        ("[]", r"not a bundle: manifest\.json is damaged"),
        ('{"format": "graphopt bundle 9"}', "its format is 'graphopt bundle 9', not 'graphopt bundle 1'"),
        ('{"format": "graphopt bundle 1", "contract": {}}', r"not a bundle: manifest\.json is damaged"),
        (
            '{"format": "graphopt bundle 1", "contract": {"model": "m"}}',
            r"not a bundle: manifest\.json is damaged",
        ),
    ],
)
def test_a_wrong_manifest_gets_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    for open_bundle in (Bundle.open, graphopt.Module):
        with pytest.raises(UsageError, match=message) as raised:
            open_bundle(tmp_path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("target", {}),
        ("target", {"triple": None, "cpu_flags": []}),
        ("files", {}),
        ("files", {"example.c": {}}),
        ("contract", {}),
        ("contract", None),
    ],
)
def test_a_manifest_with_a_damaged_part_gets_one_line(tmp_path: Path, part: str, value: object) -> None:
    bundle = copy_bundle(tmp_path / "copied.bundle")
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    (bundle.path / "manifest.json").write_text(json.dumps(manifest | {part: value}))
    for open_bundle in (Bundle.open, graphopt.Module):
        with pytest.raises(UsageError, match=r"not a bundle: manifest\.json is damaged"):
            open_bundle(bundle.path)


def test_a_name_must_be_an_identifier(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'math' would hide a C header, .* \[m_math\]"):
        graphopt.compile(tiny_model, out=tmp_path / "model.bundle", name="math")
    with pytest.raises(UsageError, match=r"'My Net' is not a lower-case C identifier \[my_net\]"):
        graphopt.compile(tiny_model, name="My Net", out=tmp_path / "b")
    assert abi_of(name="my_net").exports[0] == "my_net_run"


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.path.iterdir()}
