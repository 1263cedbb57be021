"""What others take for one inference of MLPerf Tiny's models on microcontrollers, recorded once.

Guest instructions are exact, counted on the same boards under QEMU 7.2 with the plugin of `bench.mcu`, so that they
would be the same today. TensorFlow Lite Micro is 90b983c2 with the CMSIS-NN that it pins, built by GCC 12.2, the
strongest of four builds (M4F and M7: -Ofast and requantisation in inline assembly; M55: -O3), with a resolver that
holds the int8 kernels alone. RAM is data, the arena and the stack; flash is code, constants and the model. In float32
they are TensorFlow Lite Micro, onnx2c and emx-onnx-cgen 1.4.0, whose cycles are those of `bench/mcu_cycles.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

TFLM, ONNX2C, EMX = "TFLite Micro", "onnx2c", "emx-onnx-cgen"


@dataclass(frozen=True)
class Quantised:
    """Millions of instructions; bytes where they were taken."""

    instructions: float
    arena: int | None = None
    ram: int | None = None
    flash: int | None = None


INT8: dict[tuple[str, str], Quantised] = {
    ("resnet8", "cortex-m4f"): Quantised(28.6, 54_996, 57_340, 159_116),
    ("ds_cnn", "cortex-m4f"): Quantised(7.42, 22_820, 25_164, 115_248),
    ("vww", "cortex-m4f"): Quantised(23.4, 100_708, 103_052, 394_600),
    ("autoencoder", "cortex-m4f"): Quantised(0.573, 2_580, 4_436, 309_032),
    ("resnet8", "cortex-m55"): Quantised(4.81),
    ("ds_cnn", "cortex-m55"): Quantised(1.79),
    ("vww", "cortex-m55"): Quantised(6.43),
    ("autoencoder", "cortex-m55"): Quantised(0.150),
    ("resnet8", "cortex-m7"): Quantised(29.9),
    ("ds_cnn", "cortex-m7"): Quantised(7.76),
    ("vww", "cortex-m7"): Quantised(24.5),
    ("autoencoder", "cortex-m7"): Quantised(0.583),
}
"""TensorFlow Lite Micro with CMSIS-NN, by model and core."""


@dataclass(frozen=True)
class Float:
    """Millions of modelled cycles, and of instructions where they were kept."""

    cycles: float
    instructions: float | None = None


FLOAT32: dict[str, dict[str, Float]] = {
    "resnet8": {TFLM: Float(198.9, 88.1), ONNX2C: Float(197.7, 122.8), EMX: Float(160.5, 92.6)},
    "ds_cnn": {TFLM: Float(68.4), ONNX2C: Float(40.4, 20.6), EMX: Float(33.9, 16.1)},
    "vww": {TFLM: Float(158.3, 77.4), ONNX2C: Float(112.2, 56.8), EMX: Float(104.4, 50.8)},
    "autoencoder": {TFLM: Float(3.50, 1.36), ONNX2C: Float(3.50, 1.62), EMX: Float(3.50, 1.62)},
}
"""On the Cortex-M4F, by model."""
