"""Differential testing: random valid graphs through import, passes and compiler, against ONNX Runtime.

    python -m tests.fuzz --count 500 --seed 0 [--compile] [--corpus FOLDER]

`generate` makes a model, `check` finds where ours and ONNX Runtime part, `shrink` makes a failure small. What once
failed lies in `corpus/` as an ONNX file, and is tried again by `test_fuzz.py`.
"""
