"""What bench.compression makes smaller, and by which commands: a row more is an entry more.

`{model}` is the model's file, `{data}` a file with samples `x`, prepared as the model takes them, and labels `y` if
there are any, `{before}` what the command before wrote, `{out}` what this one writes.
"""

from __future__ import annotations

from dataclasses import dataclass

LENETW = "trn_mnist_lenetw_op13"
VIT = "trn_mnist_vit_op17"
MAGIKA = "pkg_magika_v3_3_b1"
RESNETS = "trn_cifar_resnets_op13"
MBV = "trn_cifar_mbv_op17"
RESNET8 = "mlperf_resnet8_bn_op17"


@dataclass(frozen=True)
class Row:
    """`steps` make the smaller model, one after the other; `naive` is the same method without looking at anything.

    `asked` are points of loss that are allowed, `latency` the share of the time; None where nothing is asked.
    """

    name: str
    model: str
    steps: tuple[str, ...]
    naive: tuple[str, ...]
    asked: float
    latency: float | None = None


LEARN = "graphopt recover {before} --teacher {model} --data {data}:x --labels y --label-share 0.3 --out {out}"
PICTURES = f"{LEARN} --augment bench.variations:pictures --minutes 10 --epochs"


def _narrowed(name: str, model: str, *learning: str, how: str = "--macs 50%") -> Row:
    """Channels, or heads and inner widths, pruned."""
    return Row(
        name,
        model,
        (f"graphopt prune {{model}} {how} --data {{data}}:x --out {{out}}", *learning),
        (f"graphopt prune {{model}} {how} --importance l2 --recovery none --out {{out}}",),
        asked=1.0,
        latency=0.65,
    )


def _low_rank(name: str, model: str, share: str, asked: float) -> Row:
    return Row(
        name,
        model,
        (f"graphopt factorize {{model}} --parameters {share} --data {{data}}:x --out {{out}}",),
        (f"graphopt factorize {{model}} --parameters {share} --even-if-slower --out {{out}}",),
        asked,
        latency=1.0,
    )


def _sparse(name: str, model: str, share: str, asked: float, *learning: str) -> Row:
    return Row(
        name,
        model,
        (f"graphopt sparsify {{model}} --ratio {share} --data {{data}}:x --out {{out}}", *learning),
        (f"graphopt sparsify {{model}} --ratio {share} --per-layer --out {{out}}",),
        asked,
    )


ROWS = (
    _narrowed("channels_lenetw", LENETW),
    _narrowed("channels_mbv", MBV),
    _narrowed("channels_resnets", RESNETS, f"{PICTURES} 15"),
    _narrowed("channels_resnet8", RESNET8, f"{PICTURES} 30"),
    _narrowed("heads_vit", VIT, how="--parameters 60%"),
    _low_rank("low_rank_lenetw", LENETW, "10%", 0.3),
    _low_rank("low_rank_vit", VIT, "50%", 1.0),
    _low_rank("low_rank_magika", MAGIKA, "50%", 0.5),
    _sparse("sparse_lenetw", LENETW, "90%", 0.3),
    _sparse("sparse_vit", VIT, "80%", 1.5),
    _sparse("sparse_resnet8", RESNET8, "80%", 1.5),
)
