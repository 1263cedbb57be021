"""A target in words, for `graphopt targets show`."""

from __future__ import annotations

from graphopt.targets.device import Target


def explain(target: Target) -> dict[str, str]:
    """Every field that means something for the target: name of the fact -> the fact."""
    facts = _firmware(target) if target.is_firmware else _linux(target)
    if target.clock_mhz:
        facts["clock"] = f"{target.clock_mhz} MHz"
    return facts


def _linux(target: Target) -> dict[str, str]:
    lanes = target.vector_bits // 32
    facts = {
        "description": target.description,
        "processor": f"{target.cpu} ({target.family}, {'in order' if target.in_order else 'out of order'})",
        "cores": str(target.cores),
        "vectors": f"{target.vector_bits} bits ({lanes} floats), {target.vector_registers} registers",
        "features": ", ".join(target.features) or "those of the processor",
        "sums of integers": ", ".join(target.integer_products) or "none",
        **_bytes_and_images(target),
        "caches": f"{target.l1_bytes // 1024} KiB L1 data, {target.l2_bytes // 1024} KiB L2 per core",
        "code": f"{target.triple}, glibc {target.glibc} or newer",
    }
    if target.ram_mb:
        facts["memory"] = f"{target.ram_mb} MiB"
    if target.emulator:
        facts["emulator"] = f"{target.emulator} -cpu {target.emulator_cpu}"
    return facts


def _firmware(target: Target) -> dict[str, str]:
    facts = {
        "description": target.description,
        "processor": f"{target.cpu} ({target.family}, firmware without an operating system)",
        "vectors": f"{target.vector_bits} bits, {target.vector_registers} registers"
        if target.vector_bits > 32
        else "none",
        "floats": "in hardware" if target.float_abi == "hard" else "by the compiler's library",
        **_bytes_and_images(target),
        "features": ", ".join(target.features) or "those of the processor",
        "code": target.triple,
        "compiler": " ".join([f"{target.gcc}gcc", *target.gcc_flags]),
    }
    for kind in ("flash", "ram"):
        regions = [str(region) for region in target.regions if region.kind == kind]
        facts[kind] = ", ".join(regions) or "the board's: a file of your own may list regions"
    if target.emulator:
        facts["emulator"] = f"{target.emulator} as {target.emulator_board or target.name}"
    return facts


def _bytes_and_images(target: Target) -> dict[str, str]:
    return {
        "sums become bytes": "in 32-bit fixed point" if target.is_fixed_point else "by float32",
        "images": "channels-last" if target.is_channels_last else "in blocks of channels",
    }
