"""The runtimes we compare with: each as a function that runs a model once on given inputs.

A runtime that is not installed, or cannot run a model, raises PeerError with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]
Peer = Callable[[Path, Arrays, int, Path], Run]
"""From the ONNX file, inputs by name, a number of threads and a folder to write in."""

PNNX_SECONDS = 300


class PeerError(Exception):
    """Why a runtime cannot take part."""


def onnx_runtime(model: Path, inputs: Arrays, threads: int, folder: Path) -> Run:
    """ONNX Runtime with all optimisations."""
    try:
        import onnxruntime
    except ImportError:
        raise PeerError("onnxruntime is not installed") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    given = dict(inputs)
    return lambda: session.run(None, given)


def openvino(model: Path, inputs: Arrays, threads: int, folder: Path) -> Run:
    """OpenVINO tuned for latency, in float32 as the others."""
    try:
        import openvino as ov
    except ImportError:
        raise PeerError("openvino is not installed") from None
    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    except Exception as error:  # C++ exceptions without a common base
        raise PeerError(f"OpenVINO: {str(error).splitlines()[0]}") from None
    request = compiled.create_infer_request()
    given = dict(inputs)
    outputs = list(compiled.outputs)
    return lambda: [np.array(request.infer(given)[output]) for output in outputs]


def ncnn(model: Path, inputs: Arrays, threads: int, folder: Path) -> Run:
    """ncnn in float32, converted by pnnx. It takes one input, whose batch of one goes away."""
    try:
        import ncnn as library
    except ImportError:
        raise PeerError("ncnn is not installed") from None
    converted = _converted(model, folder)
    net = library.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(f"{converted}.param") or net.load_model(f"{converted}.bin"):
        raise PeerError("ncnn cannot load what pnnx made")
    given = [library.Mat(np.ascontiguousarray(array[0])) for array in inputs.values()]
    names = [f"in{index}" for index in range(len(given))]

    def run() -> list[np.ndarray]:
        extractor = net.create_extractor()
        for name, mat in zip(names, given, strict=True):
            extractor.input(name, mat)
        failed, made = extractor.extract("out0")
        if failed:
            raise PeerError("ncnn failed to run it")
        return [np.array(made)]

    return run


PEERS: dict[str, Peer] = {"ONNX Runtime": onnx_runtime, "OpenVINO": openvino, "ncnn": ncnn}


def _converted(model: Path, folder: Path) -> Path:
    """pnnx's conversion of the model, made once per folder; the path without suffix."""
    made = folder / f"{model.stem}.ncnn"
    if not made.with_name(f"{made.name}.param").is_file():
        beside = Path(sys.executable).parent
        tool = shutil.which("pnnx", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
        if tool is None:
            raise PeerError("pnnx is not installed")
        try:
            copy = folder / model.name
            if copy != model:
                copy.write_bytes(model.read_bytes())
            subprocess.run(
                [tool, copy.name, "fp16=0"],
                cwd=folder,
                capture_output=True,
                timeout=PNNX_SECONDS,
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "2"},
            )
        except (subprocess.SubprocessError, OSError) as error:
            raise PeerError(f"pnnx: {error}") from None
    if not made.with_name(f"{made.name}.param").is_file():
        raise PeerError("pnnx cannot convert it")
    return made
