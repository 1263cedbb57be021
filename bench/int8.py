"""Int8 files of a float model: ours, ONNX Runtime's and OpenVINO's, each by its own tool.

They are for `bench.cpu --int8` and `bench.arm --int8`. The models' weights are random, so random inputs are calibration
data as good as any, and no method mends what rounding loses. What multiplies bytes on this machine decides much, and
is told.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

import graphopt
from bench.peers import PeerError
from bench.quantisers import PEERS, Samples, quiet
from graphopt.data import input_specs
from graphopt.onnx_io.write import to_model, write_model
from graphopt.quantization import quantize
from graphopt.targets.device import load_target
from graphopt.targets.llvm import features_of
from graphopt.verification import random_sample

OURS = "graphopt"
CALIBRATION = 10
INSTRUCTIONS = {
    "amx-int8": "AMX",
    "avx512vnni": "AVX-512 VNNI",
    "avxvnni": "AVX-VNNI",
    "avx512bw": "AVX-512",
    "avx2": "AVX2",
}
"""What multiplies bytes on x86, by LLVM's name of the feature; the best first."""


def int8_files(model: Path, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The file of each runtime by its name, and why others have none."""
    graph = graphopt.load(model)
    samples = random_samples(graph)
    files, absent = {OURS: folder / "graphopt.int8.onnx"}, []
    write_model(quantize(graph, samples, methods="none").graph, files[OURS])
    for name, (suffix, make) in MAKERS.items():
        out = folder / f"{name.replace(' ', '')}.int8{suffix}"
        try:
            make(model, samples, out)
        except PeerError as reason:
            absent.append(str(reason))
        else:
            files[name] = out
    return files, absent


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """By ours."""
    graph = graphopt.load(model)
    return to_model(quantize(graph, random_samples(graph), methods="none").graph)


def random_samples(graph: graphopt.Graph) -> Samples:
    specs = input_specs(graph)
    return [random_sample(specs, seed) for seed in range(CALIBRATION)]


def openvino(model: Path, samples: Samples, out: Path) -> None:
    """NNCF's quantiser on OpenVINO's own form of the model, as OpenVINO's manual says."""
    try:
        with quiet():
            import nncf
            import openvino as ov
    except ImportError as error:
        raise PeerError(f"OpenVINO's int8: {error}") from None
    try:
        with quiet():
            dataset = nncf.Dataset([dict(sample) for sample in samples])
            quantised = nncf.quantize(ov.Core().read_model(model), dataset, subset_size=len(samples))
            ov.save_model(quantised, out, compress_to_fp16=False)
    except Exception as error:  # of any kind: it is not our code
        raise PeerError(f"OpenVINO's int8: {' '.join(str(error).split())[:200]}") from None


MAKERS: dict[str, tuple[str, Callable[[Path, Samples, Path], None]]] = {
    "ONNX Runtime": (".onnx", PEERS["ORT MinMax per channel"].run),
    "OpenVINO": (".xml", openvino),
}
"""Suffix of the file and what writes it, by the runtime that takes it: Q/DQ of uint8 by int8 per channel, and an IR."""


def instructions() -> str:
    """What this machine multiplies bytes with."""
    features = features_of(load_target("host"))
    return next((told for name, told in INSTRUCTIONS.items() if name in features), "no vectors of bytes")


def largest_difference(answer: np.ndarray, right: np.ndarray) -> float:
    """Over the largest magnitude; infinite where the shapes differ."""
    a, b = answer.reshape(-1).astype(np.float64), right.reshape(-1).astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
