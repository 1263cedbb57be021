"""Microcontrollers in the catalog: what every one tells, and wrong memory maps."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from graphopt.errors import UsageError
from graphopt.targets import emulator
from graphopt.targets.device import load_target
from graphopt.targets.explain import explain
from graphopt.targets.llvm import features_of
from graphopt.targets.memory_map import Region
from tests.targets.conftest import FIRMWARE

REGION = '[[regions]]\nname = "{name}"\nkind = "{kind}"\nstart = {start}\nbytes = {bytes}\n'


def region(name: str = "sram", kind: str = "ram", start: int = 0x2000_0000, bytes: int = 1024) -> str:
    return REGION.format(name=name, kind=kind, start=start, bytes=bytes)


def own(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", FIRMWARE)
def test_every_microcontroller_is_whole(name: str) -> None:
    target = load_target(name)
    assert target.name == name and target.description and all(explain(target).values())
    assert target.cores == 1 and target.in_order and target.multiplies_signed and not target.glibc
    assert target.family in ("arm", "riscv") and target.integer_products
    target.tvm()  # LLVM knows the processor and its features
    board = load_target(target.emulator_board) if target.emulator_board else target
    assert bool(board.emulator_machine and board.emulator) == bool(target.emulator)
    assert target.emulator or target.cpu == "cortex-m85"
    if board.regions:
        assert min(board.bytes_of("ram"), board.bytes_of("flash")) >= 20 << 10


@pytest.mark.parametrize("name", FIRMWARE)
def test_the_compiler_knows_the_flags(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    if shutil.which(f"{target.gcc}gcc") is None:
        pytest.skip(f"{target.gcc}gcc is not installed")
    (tmp_path / "empty.c").write_text("int empty(void) { return 0; }\n")
    command = [f"{target.gcc}gcc", *target.gcc_flags, "-c", "empty.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [n for n in FIRMWARE if load_target(n).vector_bits == 128])
def test_helium_is_compiled_without_gathers(name: str) -> None:
    """LLVM 22 miscompiles them."""
    assert "mve" in features_of(load_target(name))
    assert load_target(name).llvm_options()["cl-opt"] == ["-enable-arm-maskedgatscat=0"]


def test_regions_come_by_address(tmp_path: Path) -> None:
    text = region("b", start=0x3000_0000) + region("a", "flash", 0)
    target = load_target(own(tmp_path, f'base = "cortex-m4f"\n{text}'))
    assert target.regions == (Region("a", "flash", 0, 1024), Region("b", "ram", 0x3000_0000, 1024))
    assert (target.bytes_of("ram"), target.bytes_of("flash")) == (1024, 1024)
    (tmp_path / "same.toml").write_text(f'base = "{tmp_path / "mine.toml"}"\n')
    assert load_target(str(tmp_path / "same.toml")).regions == target.regions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (region("a", bytes=16) + region("b", start=0x2000_000F), "{path}: regions overlap: a 0 KiB at 0x20000000; b"),
        (region("a") + region("a", start=0), "{path}: two regions are called 'a' [give each"),
        ("regions = 4\n", "{path}: regions is not a list of tables [write [[regions]]"),
        (region() + "size = 4\n", "{path}: region 'sram': unknown key 'size'"),
        (region(kind="rom"), "{path}: region 'sram': kind = 'rom' is unknown [write"),
        (region(name="a b"), "{path}: region 'a b': name = 'a b' is no name"),
        (region(bytes=0), "{path}: region 'sram': it is not within the 32 bits of an address"),
        (region(start=-1), "{path}: region 'sram': it is not within the 32 bits of an address"),
        (region(start=2**32 - 1), "{path}: region 'sram': it is not within the 32 bits of an address"),
        ('[[regions]]\nname = "a"\n', "{path}: region 'a': missing keys kind, start, bytes [write"),
        ("[[regions]]\nname = 4\n", "{path}: region '4': name = 4 is not a text"),
        ('[[regions]]\nname = "a"\nstart = "0"\n', "{path}: region 'a': start = '0' is not a whole number"),
        ('triple = "thumbv7em-linux-gnu"\n', "{path}: triple = 'thumbv7em-linux-gnu' names no system"),
        ('gcc = ""\n', "{path}: firmware needs a compiler [write gcc ="),
    ],
)  # fmt: skip
def test_a_wrong_memory_map_gets_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = own(tmp_path, f'base = "cortex-m4f"\n{text}')
    with pytest.raises(UsageError) as raised:
        load_target(path)
    assert str(raised.value).startswith(message.format(path=path))
    assert "\n" not in str(raised.value)


def test_linux_has_no_memory_map(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="regions is for firmware, aarch64-linux-gnu is not"):
        load_target(own(tmp_path, f'base = "rpi4"\n{region()}'))


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install gcc-arm-none-eabi" in (emulator.missing(load_target("rp2040")) or "")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/gcc" if name.endswith("gcc") else None)
    assert "apt-get install qemu-system-misc" in (emulator.missing(load_target("rv32imac")) or "")
    assert "no emulator runs cortex-m85" in (emulator.missing(load_target("cortex-m85")) or "")
