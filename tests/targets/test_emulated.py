"""Every target of the catalog gets code that runs and answers as the model does, natively or under emulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.oracles import onnx_runtime
from graphopt.errors import ToolchainError, UsageError
from graphopt.runtime.compare import compare_outputs
from graphopt.targets.bundle import Bundle
from graphopt.targets.device import load_target
from graphopt.targets.emulated import EmulatedModule
from graphopt.verification import runner, verify_bundle
from tests.targets.conftest import LINUX, Compile, runnable
from tests.targets.test_bundle import FLOAT_STEPS, Samples

EVERY_TARGET = [pytest.param(name, marks=runnable(name)) for name in LINUX]
FOREIGN = "rpi4" if load_target("host").family == "x86" else "x86-64-v2"


@pytest.mark.parametrize("name", EVERY_TARGET)
def test_it_answers_as_the_model_does(
    compiled: Compile, name: str, tiny_model: Path, tiny_samples: Samples
) -> None:
    run, machine = runner(compiled(name))
    assert machine == "this machine" or load_target(name).emulator in machine
    oracle = onnx_runtime(tiny_model)
    for sample in tiny_samples:
        compare_outputs(oracle(sample), run(sample)).raise_if_worse_than(FLOAT_STEPS)


@pytest.mark.parametrize("name", [pytest.param(FOREIGN, marks=runnable(FOREIGN))])
def test_threads_change_nothing(compiled: Compile, name: str, tiny_samples: Samples) -> None:
    module = EmulatedModule(compiled(name))
    assert [t.name for t in module.info.inputs] == ["image", "prior"]
    alone = module(tiny_samples[0])
    module.set_num_threads(3)
    together = module(tiny_samples[0])
    assert all(np.array_equal(alone[name], together[name]) for name in alone)
    with pytest.raises(UsageError, match="missing input prior"):
        module({"image": tiny_samples[0]["image"]})


@pytest.mark.parametrize("name", ["host", pytest.param(FOREIGN, marks=runnable(FOREIGN))])
def test_verification_sees_a_difference(
    compiled: Compile, name: str, tiny_model: Path, tiny_samples: Samples, tmp_path: Path
) -> None:
    import onnx

    good = verify_bundle(tiny_model, compiled(name).path, samples=2, tolerance=FLOAT_STEPS)
    assert good.agrees and good.samples == 2
    model = onnx.load(tiny_model)
    (bias,) = (w for w in model.graph.initializer if w.name == "b2")
    changed = onnx.numpy_helper.to_array(bias) + np.eye(10, dtype=np.float32)[3]
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, "b2"))
    onnx.save(model, tmp_path / "other.onnx")
    bad = verify_bundle(tmp_path / "other.onnx", compiled(name).path, samples=2, tolerance=1e-4)
    assert not bad.agrees and bad.worst > 1e-2


@pytest.mark.parametrize("name", [pytest.param("aarch64-v8.6", marks=runnable("aarch64-v8.6"))])
def test_the_emulated_processor_has_the_features(compiled: Compile, name: str) -> None:
    assert Bundle.open(compiled(name).path).target.emulator_cpu == load_target(name).emulator_cpu == "max"


def test_a_missing_emulator_is_told_before_any_work(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = compiled(FOREIGN)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolchainError, match=r"is not installed \(Debian: apt-get install qemu-user\)"):
        EmulatedModule(bundle)
