"""The zoo's tasks: for each model its data, how it is prepared, and what is right.

A model without data of its own gets random inputs of a fixed seed, and no labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.common import ZOO

Prepare = Callable[[np.ndarray], np.ndarray]

CIFAR_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
CIFAR_STD = np.array([0.247, 0.243, 0.262], np.float32)

CIFAR = "cifar10jpeg_calib400_test2000.npz"
MNIST = "mnist_t10k_calib400_test2000.npz"
DIGITS = "digits8x8_calib200_test447.npz"
MAGIKA = "magika_files.npz"
OCR = "ocr_cls_render_calib60_test400.npz"


@dataclass(frozen=True)
class Samples:
    """`inputs[i]` feeds the model once; `labels` (int64, one per sample) or None."""

    inputs: list[dict[str, np.ndarray]]
    labels: np.ndarray | None


def _nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _floats(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def _minus_128(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.int16) - 128).astype(np.int8)


def _trained_cifar(x: np.ndarray) -> np.ndarray:
    return _nchw((_floats(x) / 255 - CIFAR_MEAN) / CIFAR_STD)


def _mnist(x: np.ndarray) -> np.ndarray:
    return (_floats(x) / 255 - np.float32(0.1307)) / np.float32(0.3081)


# Prefix of the model's name, data file, preparation, array name prefix; the first that fits counts.
TASKS: tuple[tuple[str, str, Prepare], ...] = (
    ("mlperf_resnet8_int8", CIFAR, _minus_128),
    ("mlperf_resnet8_bn_nchw", CIFAR, lambda x: _nchw(_floats(x))),
    ("mlperf_resnet8", CIFAR, _floats),
    ("trn_cifar", CIFAR, _trained_cifar),
    ("trn_mnist_lstm", MNIST, _mnist),
    ("trn_mnist", MNIST, lambda x: _mnist(x)[:, None]),
    ("mir_onnx2c_mnist", MNIST, lambda x: _floats(x)[:, None]),
    ("trn_digits", DIGITS, lambda x: _floats(x)[:, None] / 16),
    ("pkg_magika", MAGIKA, lambda x: x.astype(np.int32)),
    ("pkg_ppocr_cls", OCR, lambda x: _nchw((_floats(x[..., ::-1]) / 255 - 0.5) / 0.5)),  # blue first
    ("mlperf_vww_96_int8", "natural96_skimage_120.npz", _minus_128),
    ("mlperf_vww96", "natural96_skimage_120.npz", lambda x: _floats(x) / 255),
    ("mlperf_ad01_bn", "ad01_one_normal_clip_196x640.npz", _floats),
)


def samples(
    model: str, specs: dict[str, tuple[np.dtype, tuple[int, ...]]], *, split: str, count: int
) -> Samples:
    """Up to `count` samples for `model`: of `split` ("calib" or "test") where the file has splits.

    `specs` gives dtype and shape of each input.
    """
    for prefix, file, prepare in TASKS:
        if model.startswith(prefix):
            with np.load(ZOO / "evalsets" / file) as data:
                key = f"{split}_x" if f"{split}_x" in data else "x"
                x = prepare(data[key][:count])
                labels = data[key[:-1] + "y"][:count] if key[:-1] + "y" in data else None
            (name,) = specs
            return Samples([{name: x[i : i + 1]} for i in range(len(x))], labels)
    random = np.random.default_rng(0)
    return Samples([_random(specs, random) for _ in range(min(count, 20))], None)


def _random(
    specs: dict[str, tuple[np.dtype, tuple[int, ...]]], random: np.random.Generator
) -> dict[str, np.ndarray]:
    def draw(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        if dtype.kind == "f":
            return random.normal(size=shape).astype(dtype)
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max + 1, shape).astype(dtype)

    return {name: draw(dtype, shape) for name, (dtype, shape) in specs.items()}
