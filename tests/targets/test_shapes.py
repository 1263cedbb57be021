"""One library for several shapes of the inputs: each answers as the model does, the weights are there once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from bench.network import Network
from bench.oracles import onnx_runtime
from graphopt.cli import main
from graphopt.errors import UsageError
from graphopt.runtime.compare import compare_outputs
from graphopt.targets.emulated import EmulatedModule
from graphopt.targets.toolchain import Toolchain
from graphopt.verification import verify_bundle
from tests.targets.conftest import runnable
from tests.targets.test_bundle import FLOAT_STEPS

SHAPES = ({"input": (1, 3, 20, 20)}, {"input": (5, 3, 20, 20)}, {"input": (1, 3, 33, 20)})
SOME_ROWS = ({"input": (1, 512)}, {"input": (40, 512)})
OTHER = "rpi4"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image network whose number, height and width of images are open."""
    net = Network()
    features = net.conv_bn(net.conv_bn("input", 3, 16, 3, 2), 16, 40, 3)
    made = net.image_model(net.classifier(features, 40, 7), "net", 20, 7)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    for axis, name in ((0, "N"), (2, "H"), (3, "W")):
        dims[axis].dim_param = name
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    path = tmp_path_factory.mktemp("shapes") / "net.onnx"
    onnx.save(made, path)
    return path


@pytest.fixture(scope="module")
def bundle(model: Path) -> graphopt.Bundle:
    return graphopt.compile(model, out=model.parent / "net.bundle", input_shapes=SHAPES)


def images(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def test_each_shape_answers_as_the_model_does(model: Path, bundle: graphopt.Bundle) -> None:
    oracle, module = onnx_runtime(model), graphopt.Module(bundle)
    for shapes in SHAPES:
        sample = images(shapes["input"])
        compare_outputs(oracle(sample), module(sample)).raise_if_worse_than(FLOAT_STEPS)
    checked = verify_bundle(model, bundle.path, samples=2, tolerance=FLOAT_STEPS)
    assert checked.agrees and checked.samples == 2 * len(SHAPES)


def test_weights_are_there_once(model: Path, bundle: graphopt.Bundle, tmp_path: Path) -> None:
    alone = graphopt.compile(model, out=tmp_path / "one", input_shapes=SHAPES[0])
    assert bundle.manifest["weights_bytes"] <= 1.1 * alone.manifest["weights_bytes"]
    assert b"net_run_shape" in bundle.library.read_bytes()
    assert b"net_run_shape" not in alone.library.read_bytes()
    assert "run_shape" not in alone.header.read_text()


def test_products_of_few_and_many_rows_read_one_packing(tmp_path: Path) -> None:
    """On their own they would have tiles of different widths, and so weights in different orders."""
    net = Network()
    y = net.op("MatMul", "input", net.random_weight(512, 512, fan_in=512))
    model = net.model({"input": ["N", 512]}, {y: ["N", 512]}, "net")
    alone, many, both = (
        graphopt.compile(model, out=tmp_path / f"{number}", input_shapes=shapes)
        for number, shapes in enumerate(({"input": (1, 512)}, {"input": (40, 512)}, SOME_ROWS))
    )
    widths = [re.search(r"vectors=\d+", b.report["layers"][0]["schedule"])[0] for b in (alone, many)]  # type: ignore[index]
    assert widths[0] != widths[1], "the test has no point"
    assert both.manifest["weights_bytes"] == alone.manifest["weights_bytes"]
    module = graphopt.Module(both)
    rows = np.random.default_rng(2).normal(size=(40, 512)).astype(np.float32)
    together = module({"input": rows})[y]
    for number, row in enumerate(rows[:3]):
        np.testing.assert_allclose(module({"input": row[None]})[y][0], together[number], rtol=1e-4, atol=1e-5)


def test_the_workspace_is_enough_for_the_largest(bundle: graphopt.Bundle) -> None:
    reports = [bundle.report, *bundle.report["more_shapes"]]
    assert bundle.abi.workspace_bytes == max(report["memory"]["arena_bytes"] for report in reports)
    assert [r["summary"]["macs"] for r in reports][1] == 5 * bundle.report["summary"]["macs"]


def test_another_shape_is_told_those_there_are(bundle: graphopt.Bundle) -> None:
    module = graphopt.Module(bundle)
    with pytest.raises(UsageError, match=re.escape("[2, 3, 20, 20], the model wants [1, 3, 20, 20] or [5")):
        module(images((2, 3, 20, 20)))


CALLER = """
#include "net.h"
#include <stdio.h>
#include <stdlib.h>

static float image[NET_SHAPE_1_INPUT_0_ELEMENTS], scores[NET_SHAPE_1_OUTPUT_0_ELEMENTS];
static unsigned char workspace[NET_WORKSPACE_BYTES] __attribute__((aligned(NET_WORKSPACE_ALIGNMENT)));

int main(void) {
    const int64_t five[] = NET_SHAPE_1_INPUT_0_SHAPE, two[] = {2, 3, 20, 20};
    const int64_t *const known[] = {five}, *const unknown[] = {two};
    const void *const inputs[] = {image};
    void *const outputs[] = {scores};
    const int shape = net_find_shape(known);
    int error = net_run_shape(shape, inputs, outputs, workspace, sizeof workspace, 1);
    printf("%d %d %d %d", shape, net_find_shape(unknown), error,
           net_run_shape(NET_SHAPES, inputs, outputs, workspace, sizeof workspace, 1));
    return 0;
}
"""


def test_c_finds_the_shape(bundle: graphopt.Bundle, tmp_path: Path) -> None:
    (tmp_path / "caller.c").write_text(CALLER)
    for file in (bundle.library, bundle.header):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    program = tmp_path / "caller"
    Toolchain().link_executable(
        [tmp_path / "caller.c", tmp_path / bundle.library.name], program, bundle.target
    )
    said = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said == "1 -1 0 5"


def test_the_python_file_takes_every_shape(bundle: graphopt.Bundle) -> None:
    code = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from net import Model
model = Model()
for n, h in ((1, 20), (5, 20), (1, 33)):
    print(model.run(np.ones((n, 3, h, 20), np.float32)).popitem()[1].sum())
try:
    model.run(np.ones((2, 3, 20, 20), np.float32))
except ValueError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code, str(bundle.path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    module = graphopt.Module(bundle)
    for line, shapes in zip(said, SHAPES, strict=False):
        right = module({"input": np.ones(shapes["input"], np.float32)}).popitem()[1].sum()
        assert float(line) == pytest.approx(float(right), rel=1e-5)
    assert said[3].endswith("wants [1, 3, 20, 20] or [5, 3, 20, 20] or [1, 3, 33, 20]")


@pytest.mark.parametrize("name", [pytest.param(OTHER, marks=runnable(OTHER))])
def test_each_shape_answers_on_another_machine(name: str, model: Path, tmp_path: Path) -> None:
    bundle = graphopt.compile(model, target=name, out=tmp_path / "net.bundle", input_shapes=SHAPES[:2])
    oracle, module = onnx_runtime(model), EmulatedModule(bundle)
    for shapes in SHAPES[:2]:
        sample = images(shapes["input"])
        compare_outputs(oracle(sample), module(sample)).raise_if_worse_than(FLOAT_STEPS)


def test_the_command_line_takes_a_name_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [f"--input-shape=input={','.join(map(str, s['input']))}" for s in SHAPES[:2]]
    out = str(tmp_path / "net.bundle")
    assert main(["compile", str(model), "-o", out, *shapes, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["contract"]["more_shapes"][0]["inputs"][0]["shape"] == [5, 3, 20, 20]
    assert main(["run", out, "--random", "--json"]) == 0
    assert main(["bench", out, "--shape", "1", "--seconds", "0.05", "--json"]) == 0
    capsys.readouterr()
    assert main(["bench", out, "--shape", "2"]) == 2
    assert "its shapes: 0: input: float32[1, 3, 20, 20]; 1:" in capsys.readouterr().err
    assert main(["inspect", out]) == 0
    assert "[1, 3, 20, 20] or [5, 3, 20, 20]" in capsys.readouterr().out


def test_a_shape_given_twice_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = ["--input-shape", "input=1,3,20,20"] * 2
    assert main(["compile", str(model), "-o", str(tmp_path / "net"), *twice]) == 2
    assert "a shape is given twice: 'input' is [1, 3, 20, 20]" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_shapes_that_belong_together_must_be_as_many(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["a=1", "a=2", "b=1", "b=2", "b=3"]
    options = [part for text in given for part in ("--input-shape", text)]
    assert main(["compile", "missing.onnx", *options]) == 2
    assert "'a' 2 times, 'b' 3 times" in capsys.readouterr().err
