"""Where the time goes: counters on request, and nothing of them otherwise."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.network import Network
from graphopt import roofline
from graphopt.cli import main
from graphopt.measurement import LayerTime, layer_times
from graphopt.roofline import Roofline


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same network without and with counters."""
    net = Network()
    model = net.image_model(net.classifier(net.conv_bn("input", 3, 16, 3, 2), 16, 4), "net", 32, 4)
    folder = tmp_path_factory.mktemp("profile")
    for name, profile in (("plain", False), ("counted", True)):
        graphopt.compile(model, out=folder / name, name="net", profile=profile)
    return folder / "plain", folder / "counted"


def test_every_layer_has_a_time(bundles: tuple[Path, Path]) -> None:
    times = layer_times(bundles[1], seconds=0.05)
    assert len(times) == graphopt.Bundle.open(bundles[1]).report["summary"]["layers"]
    assert all(0 < entry.seconds < 1 for entry in times)
    assert [entry.layer["number"] for entry in times] == list(range(len(times)))


def test_counting_changes_no_answer(bundles: tuple[Path, Path]) -> None:
    inputs = {"input": np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    plain, counted = (graphopt.Module(bundle)(inputs) for bundle in bundles)
    for name in plain:
        np.testing.assert_array_equal(plain[name], counted[name])


def test_a_plain_library_has_no_counters(bundles: tuple[Path, Path]) -> None:
    header = (bundles[0] / "net.h").read_text()
    assert "profiled" not in header
    assert b"net_run_profiled" not in (bundles[0] / "libnet.so").read_bytes()
    assert "net_run_profiled" in (bundles[1] / "net.h").read_text()
    told = re.escape(f"{bundles[0]}: it was compiled without counters [compile with --profile")
    with pytest.raises(graphopt.GraphoptError, match=told):
        graphopt.Module(bundles[0]).profile({"input": np.zeros((1, 3, 32, 32), np.float32)})


def test_starting_threads_is_no_part_of_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "SECONDS", 0.02)
    sleep = 0.01
    work = [lambda: None, lambda: time.sleep(sleep)]
    assert roofline._least_seconds(work[:1]) < 5e-6
    assert sleep <= roofline._least_seconds(work) < 2 * sleep


def test_the_roof_is_the_lower_of_two() -> None:
    roofline = Roofline(flops=100.0, bandwidth=10.0)
    assert roofline.attainable(flops=1000.0, moved=1.0) == 100.0
    assert roofline.attainable(flops=10.0, moved=10.0) == 10.0
    layer = {"flops": 10, "weights_bytes": 5, "read_bytes": 3, "written_bytes": 2}
    assert LayerTime(2.0, layer).share_of(roofline) == pytest.approx(0.5)


def test_the_command_line_lists_the_slowest_first(
    bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(bundles[1]), "--per-layer", "--seconds", "0.05", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    seconds = [row["seconds"] for row in told["layers"]]
    assert seconds == sorted(seconds, reverse=True)
    assert told["machine"]["flops"] > 1e8
    assert main(["bench", str(bundles[0]), "--per-layer"]) == 2
    assert "--profile" in capsys.readouterr().err


def test_what_is_above_the_roofline_is_explained(
    bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine, told in ((Roofline(flops=1.0, bandwidth=1.0), True), (Roofline(1e18, 1e18), False)):
        monkeypatch.setattr(roofline, "measure_roofline", lambda threads, machine=machine: machine)
        assert main(["bench", str(bundles[1]), "--per-layer", "--seconds", "0.01"]) == 0
        assert ("Above 100 % of roofline" in capsys.readouterr().out) is told


def test_times_are_saved_into_the_report(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """The bundle stays whole: its manifest knows the new report, and a second save replaces the first."""
    bundle = tmp_path / "net.bundle"
    shutil.copytree(bundles[1], bundle)
    for _ in range(2):
        assert main(["bench", str(bundle), "--per-layer", "--seconds", "0.05", "--save", "--json"]) == 0
    report = graphopt.Bundle.open(bundle).report
    assert all(0 < layer["measured"]["seconds"] < 1 for layer in report["layers"])
    assert report["measured_on"]["threads"] == 1
    before = graphopt.Bundle.open(bundles[1]).report
    assert "measured_on" not in before
    assert [{k: v for k, v in layer.items() if k != "measured"} for layer in report["layers"]] == before[
        "layers"
    ]


def test_only_layers_can_be_saved(bundles: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundles[1]), "--save"]) == 2
    assert "--per-layer" in capsys.readouterr().err
