"""Broken at random, a model is read or refused: no other exception, no crash, no hang."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.onnx_io.models import cnn, control

MUTANTS = 400
SECONDS = 60
BYTES = 4 << 30
ROOT = Path(__file__).parent.parent.parent


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


@pytest.mark.parametrize("build", [cnn, control], ids=lambda build: build.__name__)
def test_mutants(build: object, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build().SerializeToString())  # type: ignore[operator]
    run = subprocess.run(
        [sys.executable, "-m", "tests.onnx_io.mutate", str(path), "0", str(MUTANTS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=_limit,
        capture_output=True,
        text=True,
        timeout=5 * SECONDS,
    )
    told = run.stdout.splitlines()
    assert run.returncode == 0, (run.returncode, told[-1:], run.stderr[-2000:])
    outcomes = Counter(line.split()[1] for line in told)
    assert sum(outcomes.values()) >= 0.9 * MUTANTS
    assert outcomes["read"] > MUTANTS // 20, outcomes  # some changes do no harm
    assert outcomes["ModelError"] > MUTANTS // 4, outcomes
