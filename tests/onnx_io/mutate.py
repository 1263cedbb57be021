"""Broken models: one valid ModelProto, changed at random in a way its structure allows.

Run as a program it reads the mutants of a range of seeds, in a process of its own, so that a crash of the interpreter
or a hang is seen from outside: `python -m tests.onnx_io.mutate MODEL FIRST COUNT`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from graphopt.errors import GraphoptError, IRError
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import to_model

INTEGERS = (0, 1, -1, 2, 3, 7, 127, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "x", "y", "é", "../x", "NOTSET", "a" * 300)


def mutant(data: bytes, seed: int) -> bytes:
    """One to three changes of the serialised model `data`: of its fields mostly, of its bytes sometimes."""
    chance = random.Random(seed)
    model = onnx.ModelProto.FromString(data)
    for _ in range(chance.randint(1, 3)):
        _change(chance, chance.choice(list(_messages(model))), model)
    data = model.SerializeToString()
    if chance.random() < 0.15:
        data = _broken_bytes(chance, data)
    return data


def _messages(root: Message) -> Iterator[Message]:
    yield root
    for field, value in root.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if _repeated(field) else [value]:
                yield from _messages(inner)


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _change(chance: random.Random, message: Message, root: Message) -> None:
    fields = [field for field, _ in message.ListFields()]
    if chance.random() < 0.2 or not fields:
        fields = list(message.DESCRIPTOR.fields)
    field = chance.choice(fields)
    if _repeated(field):
        _change_list(chance, message, field, root)
    elif chance.random() < 0.15:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _copy_like(chance, getattr(message, field.name), root)
    else:
        setattr(message, field.name, _scalar(chance, field, getattr(message, field.name), root))


def _change_list(chance: random.Random, message: Message, field: FieldDescriptor, root: Message) -> None:
    items = getattr(message, field.name)
    action = chance.choice(("delete", "double", "swap", "change", "add"))
    at = chance.randrange(len(items)) if items else 0
    if items and action == "delete":
        del items[at]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if items and action == "double":
            items.add().CopyFrom(items[at])
        elif items and action == "swap":
            items.sort(key=lambda item: chance.random())
        else:
            _copy_like(chance, items.add(), root)
    elif items and action in ("change", "swap"):
        items[at] = _scalar(chance, field, items[at], root)
    else:
        items.append(_scalar(chance, field, items[at] if items else 0, root))


def _copy_like(chance: random.Random, message: Message, root: Message) -> None:
    """Make `message` a copy of another of its type, from anywhere in the model."""
    others = [other for other in _messages(root) if other.DESCRIPTOR is message.DESCRIPTOR]
    if not others:
        return
    other = type(message)()
    other.CopyFrom(chance.choice(others))
    if other.ByteSize() < 20_000:
        message.CopyFrom(other)


def _scalar(chance: random.Random, field: FieldDescriptor, old: object, root: Message) -> object:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return chance.choice(list(field.enum_type.values_by_number))
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice((*TEXTS, *_names(root)))
    if field.type == FieldDescriptor.TYPE_BYTES:
        data = bytes(old) if isinstance(old, bytes) else b""
        return chance.choice((b"", data[:-1], data + b"\xff", data * 2, b"\xff\xfe", b"x"))
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return chance.choice(FLOATS)
    number = chance.choice((*INTEGERS, old + 1, old - 1))  # type: ignore[operator]
    if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT64):
        return number & 0x7FFFFFFF
    return max(min(number, (1 << 63) - 1), -(1 << 63))


def _names(root: Message) -> list[str]:
    assert isinstance(root, onnx.ModelProto)
    names = [name for node in root.graph.node for name in (*node.input, *node.output, node.op_type)]
    return sorted(set(names)) or ["x"]


def _broken_bytes(chance: random.Random, data: bytes) -> bytes:
    at, other = chance.randrange(len(data)), chance.randrange(len(data))
    kind = chance.choice(("cut", "flip", "remove", "repeat"))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    low, high = sorted((at, other))
    return data[:low] + data[high:] if kind == "remove" else data[:high] + data[low:]


def outcome(data: bytes) -> str:
    """`read`, or the class of the error; anything but a GraphoptError about the model is raised."""
    try:
        to_model(read_model(data))
    except IRError:
        raise
    except GraphoptError as error:
        assert str(error) and "\n" not in str(error)
        return type(error).__name__
    return "read"


def main() -> None:
    path, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    data = path.read_bytes()
    for seed in range(first, first + count):
        try:
            changed = mutant(data, seed)
        except (DecodeError, ValueError):
            continue
        sys.stdout.write(f"{seed} ")
        sys.stdout.flush()
        sys.stdout.write(f"{outcome(changed)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
