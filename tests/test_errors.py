"""One line for each error, and the names that were likely meant."""

from __future__ import annotations

import pytest

from graphopt.errors import GraphoptError, did_you_mean


def test_an_error_is_one_line() -> None:
    error = GraphoptError("too\nlarge", where="node\t'a'", hint="make it\n smaller")
    assert str(error) == "node 'a': too large [make it smaller]"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Rellu", "did you mean Relu?"),
        ("softmax", "did you mean Softmax?"),
        ("BatchNorm", "did you mean BatchNormalization?"),
        ("rpi9", "did you mean rpi3 or rpi4?"),
        ("FooBar", "ask for help"),
        ("Reloo", "ask for help"),
        ("or", "ask for help"),
        ("", "ask for help"),
    ],
)
def test_only_names_that_are_close_are_suggested(name: str, hint: str) -> None:
    known = ["Relu", "Floor", "Softmax", "BatchNormalization", "rpi3", "rpi4", "Mod"]
    assert did_you_mean(name, known, "ask for help") == hint
