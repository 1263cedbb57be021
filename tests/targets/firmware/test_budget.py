"""What a program may take of RAM and flash: told before anything is written, with what would have to give."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphopt
from graphopt.errors import UnsupportedError, UsageError
from graphopt.ir import DType, Graph, TensorType
from graphopt.targets.firmware.options import bytes_of
from tests.targets.firmware.conftest import DIGITS
from tests.targets.firmware.residual import residual


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("64K", 65536), ("64 KiB", 65536), ("64kb", 65536), ("1M", 1 << 20), ("12B", 12)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert bytes_of(text, "--ram") == size


@pytest.mark.parametrize("text", ["", "0", "-1", "64x", "1.5K", "K"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of bytes") as raised:
        bytes_of(text, "--ram")
    assert raised.value.hint == "write --ram 64K, or 65536"


def test_the_layers_that_hold_the_peak_are_named(tmp_path: Path) -> None:
    """Of a network whose first images have 12 x 11 x 9 bytes, and are two at once."""
    image = 12 * 11 * 9
    with pytest.raises(UnsupportedError) as raised:
        graphopt.compile(residual(), target="cortex-m4f", out=tmp_path / "fw", ram=2 * image)
    assert "bytes of ram without code and stack, --ram allows 2,376, most of it in '" in raised.value.what
    assert f"writes {image:,}" in raised.value.what and "flash" not in raised.value.what
    assert not (tmp_path / "fw").exists()


def test_flash_is_told_with_what_quantising_would_save(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as raised:
        graphopt.compile(DIGITS, target="cortex-m4f", out=tmp_path / "fw", flash=1000)
    assert "of flash without code and stack, --flash allows 1,000" in raised.value.what
    assert raised.value.hint is not None and "bytes less as int8" in raised.value.hint


def test_code_and_stack_count_where_the_compiler_is_there(tmp_path: Path) -> None:
    """Just what data take is too little."""
    bundle = graphopt.compile(residual(), target="cortex-m4f", out=tmp_path / "fw")
    for kind, data in (("ram", bundle.abi.workspace_bytes), ("flash", bundle.manifest["weights_bytes"])):
        with pytest.raises(UnsupportedError, match=rf"bytes of {kind} with code and stack"):
            graphopt.compile(residual(), target="cortex-m4f", out=tmp_path / "small", **{kind: data})
        assert not (tmp_path / "small").exists()
    enough = {"ram": bundle.abi.workspace_bytes + 4096, "flash": 1 << 20}
    graphopt.compile(residual(), target="cortex-m4f", out=tmp_path / "enough", **enough)


def test_the_boards_memory_is_the_limit_where_it_is_less(tmp_path: Path) -> None:
    """Of several regions each is told, and the layers that neither one nor all of them hold."""
    (tmp_path / "two.toml").write_text(
        'base = "cortex-m4f"\n'
        '[[regions]]\nname = "flash"\nkind = "flash"\nstart = 0\nbytes = 0x10_0000\n'
        '[[regions]]\nname = "sram1"\nkind = "ram"\nstart = 0x2000_0000\nbytes = 1024\n'
        '[[regions]]\nname = "sram2"\nkind = "ram"\nstart = 0x2001_0000\nbytes = 1024\n'
    )
    with pytest.raises(UnsupportedError, match=r"two has 1,024 in its largest region") as raised:
        graphopt.compile(residual(), target=str(tmp_path / "two.toml"), out=tmp_path / "fw", ram=1 << 20)
    assert "sram1 1,024, sram2 1,024" in raised.value.what and "spread over sram1, sram2" in raised.value.what
    assert "most of it in '" in raised.value.what and "scratch" in raised.value.what


def test_what_computes_in_float64_is_refused(tmp_path: Path) -> None:
    graph = Graph("wide", opset=24)
    x = graph.add_input("x", TensorType(DType.float64, (4,)))
    graph.add_output(graph.add("Exp", [x], types=[x.type], name="grow").output, "y")
    with pytest.raises(UnsupportedError, match="is float64") as raised:
        graphopt.compile(graph, target="cortex-m7", out=tmp_path / "fw")
    assert raised.value.where == "node 'grow' (Exp)" and "float32" in raised.value.hint
    assert not (tmp_path / "fw").exists()
