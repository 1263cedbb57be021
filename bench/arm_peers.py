"""What other runtimes execute for one inference on ARM, one thread: counted once, with the plugin of bench.guest.

By kind of arithmetic, model and device; rpi4 is the cortex-a72, rpi5 the cortex-a76 with its dot products.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"


@dataclass(frozen=True)
class Peer:
    """Millions of guest instructions; of modelled cycles where they were taken."""

    runtime: str
    instructions: float
    cycles: float | None = None


ONNX_RUNTIME, NCNN, LITERT = "ONNX Runtime 1.32", "ncnn 1.0.20261020", "LiteRT 2.3"
PEERS: dict[str, dict[tuple[str, str], tuple[Peer, ...]]] = {
    FLOAT32: {
        ("resnet18", "rpi4"): (Peer(ONNX_RUNTIME, 665, 538), Peer(NCNN, 239.383, 207.485)),
        ("resnet18", "rpi5"): (Peer(ONNX_RUNTIME, 666, 281), Peer(NCNN, 239.383, 107.955)),
        ("mobilenet_v2", "rpi4"): (Peer(ONNX_RUNTIME, 181, 158), Peer(NCNN, 101.242, 94.431)),
        ("mobilenet_v2", "rpi5"): (Peer(ONNX_RUNTIME, 181, 95), Peer(NCNN, 101.245, 48.862)),
        ("resnet8", "rpi4"): (Peer(ONNX_RUNTIME, 6.57), Peer(NCNN, 3.208, 2.663), Peer(LITERT, 4.89)),
        ("resnet8", "rpi5"): (Peer(ONNX_RUNTIME, 6.57), Peer(NCNN, 3.207, 1.544), Peer(LITERT, 4.71)),
        ("ds_cnn", "rpi4"): (Peer(ONNX_RUNTIME, 3.05), Peer(NCNN, 1.216, 1.036)),
        ("ds_cnn", "rpi5"): (Peer(ONNX_RUNTIME, 3.05), Peer(NCNN, 1.216, 0.594)),
        ("vww", "rpi4"): (Peer(ONNX_RUNTIME, 7.66), Peer(NCNN, 3.207, 2.851), Peer(LITERT, 3.63)),
        ("vww", "rpi5"): (Peer(ONNX_RUNTIME, 7.65), Peer(NCNN, 3.207, 1.577), Peer(LITERT, 3.52)),
    },
    FLOAT16: {
        ("resnet18", "rpi5"): (Peer(NCNN, 130, 67),),
        ("mobilenet_v2", "rpi5"): (Peer(NCNN, 54, 27),),
    },
    INT8: {
        ("resnet18", "rpi4"): (Peer(ONNX_RUNTIME, 577, 265),),
        ("resnet18", "rpi5"): (Peer(ONNX_RUNTIME, 200, 79),),
        ("mobilenet_v2", "rpi4"): (Peer(ONNX_RUNTIME, 120, 70),),
        ("mobilenet_v2", "rpi5"): (Peer(ONNX_RUNTIME, 64, 30),),
        ("resnet8", "rpi4"): (Peer(ONNX_RUNTIME, 5.51), Peer(LITERT, 4.33)),
        ("resnet8", "rpi5"): (Peer(ONNX_RUNTIME, 2.72), Peer(LITERT, 1.50)),
        ("ds_cnn", "rpi4"): (Peer(ONNX_RUNTIME, 1.47), Peer(LITERT, 1.94)),
        ("ds_cnn", "rpi5"): (Peer(ONNX_RUNTIME, 0.88), Peer(LITERT, 0.72)),
        ("vww", "rpi4"): (Peer(ONNX_RUNTIME, 4.90), Peer(LITERT, 3.62)),
        ("vww", "rpi5"): (Peer(ONNX_RUNTIME, 3.19), Peer(LITERT, 1.93)),
    },
}
"""ncnn was counted with the very models of the pipelines, its aarch64 wheel under an emulated Python; in float32 it has
Winograd. Of the others on the small models only instructions are known, which are more than ncnn's. int8 is everyone's
own file of the same network; float16 is arithmetic in it.
"""
