"""The tools that quantise models after training, which ours is compared with: each from a float file to an int8 file.

A tool that is not installed, or fails on a model, raises PeerError with the reason. ONNX Runtime's quantiser gets the
model prepared as its manual says, and every tool gets it at an opset that can hold a scale for each channel.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from onnx import version_converter

from bench.peers import PeerError

Samples = Sequence[Mapping[str, np.ndarray]]
Quantise = Callable[[Path, Samples, Path], None]
"""From the float file and samples to the file to write."""

PER_CHANNEL_OPSET = 13
"""The first at which DequantizeLinear has an axis."""

WANTED_OPSET = 17
METHODS = ("MinMax", "Entropy", "Percentile")


@dataclass(frozen=True)
class Quantiser:
    """`run` raises PeerError; `package` is whose version decides whether an earlier result still holds."""

    package: str
    quantise: Quantise

    @property
    def version(self) -> str:
        """Empty where it is not installed."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return ""

    def run(self, model: Path, samples: Samples, out: Path) -> None:
        if not self.version:
            raise PeerError(f"{self.package} is not installed")
        try:
            with quiet():
                self.quantise(prepared(model, out.with_suffix(".float.onnx")), samples, out)
        except Exception as error:  # of any kind: it is not our code
            raise PeerError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None


def prepared(model: Path, out: Path) -> Path:
    """The model at an opset that the tools can write quantised weights in."""
    proto = onnx.load(model)
    if max(entry.version for entry in proto.opset_import if entry.domain == "") < PER_CHANNEL_OPSET:
        proto = version_converter.convert_version(proto, WANTED_OPSET)
    onnx.save(proto, out)
    return out


def onnx_runtime(method: str, per_channel: bool) -> Quantise:
    """`quantize_static` to uint8 activations and int8 weights as Q/DQ; `method` is one of METHODS."""

    def quantise(model: Path, samples: Samples, out: Path) -> None:
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self.rest = iter(samples)

            def get_next(self) -> dict | None:
                sample = next(self.rest, None)
                return None if sample is None else dict(sample)

        ready = out.with_suffix(".ready.onnx")
        try:
            quantization.quant_pre_process(model, ready)
        except Exception:  # its symbolic shapes do not take every model
            quantization.quant_pre_process(model, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            out,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=per_channel,
            calibrate_method=quantization.CalibrationMethod[method],
        )

    return quantise


def nncf(model: Path, samples: Samples, out: Path) -> None:
    """`nncf.quantize` as it is, without options."""
    import nncf as library

    library.set_log_level(logging.ERROR)
    dataset = library.Dataset([dict(sample) for sample in samples])
    onnx.save(library.quantize(onnx.load(model), dataset, subset_size=len(samples)), out)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the tools' remarks on the way."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


PEERS: dict[str, Quantiser] = {
    **{
        f"ORT {method} per {'channel' if per_channel else 'tensor'}": Quantiser(
            "onnxruntime", onnx_runtime(method, per_channel)
        )
        for method in METHODS
        for per_channel in (False, True)
    },
    "NNCF": Quantiser("nncf", nncf),
}
