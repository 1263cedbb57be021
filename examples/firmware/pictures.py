"""The pictures of ../digits: how a model takes them, and as C for the program that reads them.

    python pictures.py > pictures.h

The first `CALIBRATION` are for quantising the model; the others are read by the firmware.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

CALIBRATION = 50
DIGITS = Path(__file__).parent.parent / "digits" / "digits.npz"


def prepare(picture: np.ndarray) -> np.ndarray:
    """A picture of 8 x 8 pixels from 0 to 16 as the model's input, float32 [1, 8, 8] from 0 to 1."""
    return picture.astype(np.float32)[np.newaxis] / 16


def main() -> None:
    with np.load(DIGITS) as data:
        pictures, labels = (data[name][CALIBRATION:] for name in ("images", "labels"))
    rows = [f"    {{{', '.join(map(str, picture.ravel()))}}}," for picture in pictures]
    lines = [
        "#include <stdint.h>",
        "",
        f"enum {{ PICTURES = {len(pictures)}, PIXELS = {pictures[0].size} }};",
        "static const uint8_t pictures[PICTURES][PIXELS] = {",
        *rows,
        "};",
        f"static const uint8_t labels[PICTURES] = {{{', '.join(map(str, labels))}}};",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
