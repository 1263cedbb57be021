"""Results of peers that were measured before, and those that a file keeps.

The recorded ones are from this very protocol on a machine with VNNI: ONNX Runtime 1.32, NNCF 3.4, AIMET-ONNX 2.42 and
AMD Quark 0.13, the best of each model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Best:
    """The best peer on 8-bit weights and activations: top-1 in per cent, SQNR in decibels."""

    tool: str
    metric: float
    sqnr: float


RECORDED = {
    "trn_cifar_mbv": Best("ONNX Runtime, min-max per channel", 67.00, 31.7),
    "trn_cifar_resnets": Best("NNCF with min-max ranges", 66.70, 39.3),
    "mlperf_resnet8_bn": Best("NNCF with min-max ranges", 74.65, 24.4),
    "pkg_magika_v3_3_b1": Best("ONNX Runtime, products only", 94.69, 33.4),
    "trn_mnist_vit": Best("AIMET", 91.05, 31.2),
    "trn_mnist_lenetw": Best("AIMET with equalisation", 98.55, 40.4),
    "trn_mnist_lstm": Best("AIMET", 97.00, 40.5),
    "pkg_ppocr_cls": Best("ONNX Runtime, percentile per channel", 99.00, 29.4),
}


class Kept:
    """Rows in a JSON file, by model, tool, its version and the number of test samples; without a file, in memory."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            self.rows = json.loads(path.read_text())

    @staticmethod
    def key(model: str, tool: str, version: str, test: int) -> str:
        return f"{model}, {tool}, {version or 'not installed'}, {test} samples"

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.rows[key]

    def __setitem__(self, key: str, row: dict[str, Any]) -> None:
        """Written at once: a run may be broken off. What failed for want of a package is tried again."""
        self.rows[key] = row
        if self.path is not None:
            kept = {k: r for k, r in self.rows.items() if "not installed" not in k}
            self.path.write_text(json.dumps(kept, indent=1) + "\n")
