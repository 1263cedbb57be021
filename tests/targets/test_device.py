"""Targets as data: the catalog, a user's own file, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from graphopt.errors import UsageError
from graphopt.targets.device import Target, list_targets, load_target
from graphopt.targets.explain import explain
from tests.targets.conftest import LINUX

PROMISED = (
    "x86-64-v2 x86-64-v3 x86-64-v4 x86-64-amx rpi3 rpi4 rpi5 rpi-zero2 rpi-armv7 aarch64 aarch64-v8.6".split()
)
CORES = "m0plus m3 m4 m4f m7 m33 m55 m85".split()
BOARDS = (
    "esp32-c3 mps2-an385 mps2-an386 mps2-an500 mps2-an505 mps3-an547 nrf52840 nrf5340 nucleo-f446re nucleo-l4r5zi "
    "riscv-virt rp2040 rp2350 stm32f103c8 stm32h743zi"
).split()
OF_CORES = [*(f"cortex-{core}" for core in CORES), "rv32imac", "rv32imafc"]


def own(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_catalog_is_what_is_promised() -> None:
    assert list_targets() == ["host", *sorted(PROMISED + OF_CORES + BOARDS)]


@pytest.mark.parametrize("name", LINUX)
def test_every_target_is_whole(name: str) -> None:
    target = load_target(name)
    assert target.name == name and target.description
    assert target.family in ("x86", "arm")
    assert target.cores >= 1 and target.vector_bits in (128, 256, 512)
    assert target.l1_bytes % 1024 == 0 and target.l2_bytes > target.l1_bytes
    assert target.glibc == ("2.28" if target.family == "x86" else "2.31")
    emulated = bool(target.emulator and target.emulator_cpu and target.sysroot)
    assert target.is_native or emulated == (target.vector_bits < 512)  # QEMU has no AVX-512
    assert all(explain(target).values())


def test_host_is_this_machine() -> None:
    host = load_target("host")
    assert host.is_native
    assert not host.emulator or host.family == "arm"


def test_a_target_of_ones_own_starts_from_one_of_ours(tmp_path: Path) -> None:
    ours = load_target("rpi4")
    mine = load_target(
        own(tmp_path, 'base = "rpi4"\ndescription = "My board"\ncores = 2\nfeatures = ["aes"]\n')
    )
    changed = {"name": "mine", "description": "My board", "cores": 2, "features": ("aes",)}
    assert mine == dataclasses.replace(ours, **changed)
    assert mine.llvm_options()["mattr"] == ["+aes"]


def test_a_base_may_have_a_base(tmp_path: Path) -> None:
    base = own(tmp_path, 'base = "rpi-zero2"\nram_mb = 256\n')
    path = tmp_path / "smaller.toml"
    path.write_text(f'base = "{base}"\ncores = 1\n')
    smaller = load_target(str(path))
    assert (smaller.ram_mb, smaller.cores, smaller.cpu) == (256, 1, load_target("rpi3").cpu)


def test_a_whole_target_needs_no_base(tmp_path: Path) -> None:
    text = """
        description = "A board"
        family = "arm"
        triple = "aarch64-linux-gnu"
        zig = "aarch64-linux-gnu.2.34"
        cpu = "cortex-a55"
    """
    target = load_target(own(tmp_path, text))
    assert (target.glibc, target.cores, target.name) == ("2.34", 1, "mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "rpi4"\ncoers = 2', "{path}: unknown key 'coers' [did you mean cores?]"),
        ('base = "rpi4"\nzzz = 2', "{path}: unknown key 'zzz' [keys: base, name, description, family"),
        (
            'base = "rpi4"\ncores = "2"',
            "{path}: cores = '2' is not a whole number from 1 to 1024 [write cores =",
        ),
        ('base = "rpi4"\ncores = true', "{path}: cores = True is not a whole number from 1"),
        ('base = "rpi4"\ncores = 9999', "{path}: cores = 9999 is not a whole number from 1 to 1024"),
        ('base = "rpi4"\nram_mb = -1', "{path}: ram_mb = -1 is not a whole number from 0"),
        (
            'base = "rpi4"\nfeatures = "neon"',
            "{path}: features = 'neon' is not a list of texts [write features =",
        ),
        ('base = "rpi4"\nfeatures = [1]', "{path}: features = [1] is not a list of texts"),
        ('base = "rpi4"\ncpu = 72', '{path}: cpu = 72 is not a text [write cpu = "..."]'),
        ('base = "rpi44"', "{path}: base = 'rpi44': there is no target 'rpi44' [did you mean rpi4?]"),
        ("base = 4", "{path}: base = 4 is not a text"),
        (
            "cores = ",
            "{path}: not valid TOML: Invalid value (at ",
        ),
        ('base = "rpi4"\nvector_bits = 8', "{path}: vector_bits = 8 is no vector's width [write 128"),
        ('base = "rpi4"\nvector_bits = 100', "{path}: vector_bits = 100 is no vector's width"),
        (
            'base = "rpi4"\nrequantization = "exact"',
            "{path}: requantization = 'exact' is unknown [write requantization =",
        ),
        ('base = "rpi4"\nfloat_abi = "fpu"', "{path}: float_abi = 'fpu' is unknown [write"),
        (
            'base = "rpi4"\nzig = "arm-linux-gnueabihf"',
            "{path}: zig = 'arm-linux-gnueabihf' is not for aarch64",
        ),
        ('cpu = "cortex-a72"', "{path}: missing keys description, family, triple, zig [give them, or start"),
        (
            'base = "rpi4"\ntriple = "aarch65-linux-gnu"',
            "{path}: triple = 'aarch65-linux-gnu' is for an unknown machine",
        ),
        ('base = "rpi4"\nfamily = "x86"', "{path}: family = 'x86' is not that of aarch64 [write"),
        ('base = "rpi4"\ncores = 0', "{path}: cores = 0 is not a whole number from 1"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = own(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        load_target(path)
    assert str(raised.value).startswith(message.format(path=path))
    assert "\n" not in str(raised.value)


def test_a_base_that_is_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "{path}"\n')
    with pytest.raises(UsageError, match="based on itself"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rpi", "there is no target 'rpi' [did you mean rpi"),
        ("wristwatch", "there is no target 'wristwatch' [one of host, aarch64, "),
        ("missing.toml", "missing.toml: cannot read the target: No such file or directory"),
    ],
)
def test_an_unknown_name_gets_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_target(name)
    assert str(raised.value).startswith(message)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not text"):
        load_target(str(path))


@pytest.mark.parametrize(
    ("text", "close"),
    [
        ('base = "rpi4"\ncpu = "cortex-a721"', "cortex-a72"),
        ('base = "rpi4"\nfeatures = ["dotprodd"]', "dotprod"),
    ],
)
def test_what_llvm_does_not_know_is_named_before_any_work(tmp_path: Path, text: str, close: str) -> None:
    target = load_target(own(tmp_path, text))
    with pytest.raises(UsageError, match=f"did you mean {close}"):
        target.tvm()


def test_the_memory_of_this_machine_is_known_and_no_part_of_the_target() -> None:
    host = load_target("host")
    assert host.memory_bytes > 1 << 26
    assert host.ram_mb == 0 and "memory" not in explain(host)
    assert load_target("rpi4").memory_bytes == 4096 << 20
    assert load_target("aarch64").memory_bytes == 0


def test_flags_are_the_kernels_names() -> None:
    assert "asimddp" in load_target("rpi5").cpu_flags
    assert "avx512f" in load_target("x86-64-v4").cpu_flags and "avx2" in load_target("x86-64-v4").cpu_flags
    assert load_target("x86-64-v2").cpu_flags == ()


def test_a_native_target_has_what_it_asks_for() -> None:
    host = load_target("host")
    assert not dataclasses.replace(host, features=("no-such-feature",)).is_native
    assert isinstance(host, Target)
