"""The self-test: it passes on every core, and names the first layer that is not as it should be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.api import load, optimize
from graphopt.errors import ToolchainError
from graphopt.preparation import grouped_for, legalized
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.firmware.build import build, build_selftest
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.firmware.layer_checks import fnv1a, layer_checks, on_steps
from graphopt.verification import random_sample, verify_bundle
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import CORES, DIGITS, Firmware

ON_CORES = [pytest.param(core, marks=runnable(core)) for core in CORES]
ON_M3 = [pytest.param("cortex-m3", marks=runnable("cortex-m3"))]


@pytest.mark.parametrize("core", ON_CORES)
def test_integers_pass_everywhere(digits_int8: Firmware, core: str) -> None:
    """By checksums: what a core computes in another way is found."""
    bundle = digits_int8(core)
    text = (bundle.path / "net_selftest.c").read_text()
    assert (
        text.count("if (checksum(") == len(bundle.report["layers"]) - 1
        and text.count("if (differs_float(") == 1
    )
    EmulatedFirmware(bundle, selftest=True).run([random_sample(bundle.abi.inputs, 0)])


def layers_with_weights(bundle: Bundle) -> list[tuple[int, list[str]]]:
    """The numbers of the layers whose kernels take arrays of weights, and the names of those."""
    text = (bundle.path / "net_selftest.c").read_text()
    calls = re.findall(r"^    net_\w+\((.*)\); /\* (\d+): ", text, re.MULTILINE)
    return [
        (int(number), found) for taken, number in calls if (found := re.findall(r"net_weights_\d+", taken))
    ]


def spoilt(module: EmulatedFirmware, bundle: Bundle, symbol: str) -> None:
    """A bit of the largest of some bytes is flipped, or the sign of all floats; the self-test is built again."""
    assembly, header = ((bundle.path / f"net_{name}").read_text() for name in ("weights.S", "internal.h"))
    (found,) = re.findall(rf'{symbol}:\n    \.incbin "[\w.]+", (\d+), (\d+)', assembly)
    start, size = map(int, found)
    folder = module.program.parent
    data = bytearray((bundle.path / "net_weights.bin").read_bytes())
    is_float = "float" in re.findall(rf"extern const (\w+) {symbol}\[", header)[0]
    largest = start + int(np.abs(np.frombuffer(data, np.int8, size, start).astype(int)).argmax())
    for place in range(start + 3, start + size, 4) if is_float else [largest]:
        data[place] ^= 0x80 if is_float else 0x40
    (folder / "net_weights.bin").write_bytes(data)
    build(folder, bundle.abi, bundle.target)
    build_selftest(folder, bundle.abi, bundle.target)


@pytest.mark.parametrize("core", ON_M3)
@pytest.mark.parametrize("model", ["digits", "digits_int8"])
def test_the_first_wrong_layer_is_named(request: pytest.FixtureRequest, model: str, core: str) -> None:
    """Weights in flash that are spoilt, of a float model and of a quantised one; first layer and last."""
    bundle = request.getfixturevalue(model)(core)
    layers = layers_with_weights(bundle)
    for number, symbols in (layers[0], layers[-1]):
        module = EmulatedFirmware(bundle, selftest=True)
        spoilt(module, bundle, symbols[0])
        with pytest.raises(ToolchainError, match=rf"the self-test finds layer {number} of memory\.md"):
            module(random_sample(bundle.abi.inputs, 0))


@pytest.mark.parametrize("core", ON_M3)
def test_an_output_that_is_wrong_alone_is_told(digits: Firmware, core: str) -> None:
    """The layers are right, what is wanted of the outputs is not: the number is one more than there are layers."""
    bundle = digits(core)
    module = EmulatedFirmware(bundle, selftest=True)
    folder = module.program.parent
    head, values = (bundle.path / "net_selftest.c").read_text().split("wanted_", 1)
    (folder / "net_selftest.c").write_text(f"{head}wanted_{values.replace('{', '{ 1000.0f + ', 1)}")
    build_selftest(folder, bundle.abi, bundle.target)
    with pytest.raises(ToolchainError, match=rf"layer {len(bundle.report['layers']) + 1} of memory\.md"):
        module(random_sample(bundle.abi.inputs, 0))


def test_what_is_exact_is_told_by_a_checksum() -> None:
    """Integers behind a quantised input on its steps; what floats make is summed."""
    ready = legalized(optimize(load(quantised_then_float())), fixed_point=True)
    graph = grouped_for(ready, load_target("cortex-m3"))
    inputs = on_steps(ready, {"x": np.linspace(-3, 3, 8, dtype=np.float32).reshape(1, 8)})
    np.testing.assert_allclose(inputs["x"] / 0.25, np.rint(inputs["x"] / 0.25), atol=0)
    assert fnv1a(b"") == 0x811C9DC5 and fnv1a(b"a") == 0xE40C292C
    checks = layer_checks(graph, inputs)
    kinds = {value.dtype.label: check.checksum is not None for value, check in checks.items()}
    assert kinds["float32"] is False
    assert all(check.bound > 0 for check in checks.values() if check.checksum is None)


def quantised_then_float() -> bytes:
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.25])
    zero = helper.make_tensor("z", TensorProto.INT8, [], [3])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Exp", ["d"], ["y"]),
    ]
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [next(ends)], [next(ends)], [scale, zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def test_equal_seeds_give_equal_checks(tmp_path: Path) -> None:
    graph = grouped_for(optimize(load(DIGITS)), load_target("cortex-m3"))
    inputs = {"input": np.ones((1, 1, 8, 8), np.float32)}
    first, second = (list(layer_checks(graph, inputs).values()) for _ in range(2))
    assert first == second and len(first) >= 5


def behind_floats(path: Path) -> Path:
    """Bytes that come from a Tanh of sums of floats, and what follows: another order of a sum moves one by a step."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(size=(6, 5)).astype(np.float32), "w"),
        numpy_helper.from_array(np.float32(1 / 127), "s"),
        numpy_helper.from_array(np.int8(0), "z"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "s", "z"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
        helper.make_node("MatMul", ["x", "w"], ["plain"]),
    ]
    tensors = [("x", [1, 6]), ("y", [1, 5]), ("plain", [1, 5])]
    x, y, plain = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in tensors)
    graph = helper.make_graph(nodes, "g", [x], [y, plain], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("core", ON_M3)
@pytest.mark.parametrize(("output", "agrees"), [("y", True), ("plain", False)])
def test_verification_allows_what_the_selftest_does(
    core: str, output: str, agrees: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the output behind rounded floats agrees, four and more do not; nor does anything of the other one."""
    model = behind_floats(tmp_path / "m.onnx")
    bundle = graphopt.compile(model, target=core, out=tmp_path / "fw", name="net")
    assert bundle.manifest["rounded_outputs"] == ["y"]
    run = EmulatedFirmware.run

    def moved(steps: int) -> bool:
        def off(self: EmulatedFirmware, samples: list) -> list:
            return [
                {n: a + (n == output) * np.float32(steps / 127) for n, a in x.items()}
                for x in run(self, samples)
            ]

        monkeypatch.setattr(EmulatedFirmware, "run", off)
        return verify_bundle(model, bundle.path, samples=1).agrees

    assert [moved(0), moved(1), moved(6)] == [True, agrees, False]
