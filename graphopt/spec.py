"""Objects as text: `name`, or `name{option=value option=value}`, where the options are the fields of a dataclass.

Passes and observers are written so. What is at its default is left out, and the items of a list are joined by `+`.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

from graphopt.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

ITEM = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\{(?P<options>[^{}]*)\}\s*)?(?P<comma>,)?")
"""One object in a list of them."""


def spec_of(name: str, options: DataclassInstance, preset: DataclassInstance | None = None) -> str:
    """The text of an object that is called `name`; without options it has the fields of `preset`, else defaults."""
    changed = [
        f"{f.name}={_print_option(getattr(options, f.name))}"
        for f in dataclasses.fields(options)
        if getattr(options, f.name) != (f.default if preset is None else getattr(preset, f.name))
    ]
    return name + (f"{{{' '.join(changed)}}}" if changed else "")


def made_from(name: str, options: str, catalog: Mapping[str, type[T]], kind: str, *, where: str) -> T:
    """The object of the class that `catalog` has by `name`; `kind` is what messages call it. Raises UsageError."""
    if name not in catalog:
        hint = did_you_mean(name, catalog, f"there are {', '.join(sorted(catalog))}")
        raise UsageError(f"there is no {kind} '{name}'", where=where, hint=hint)
    cls = catalog[name]
    return cls(**options_of(options, cls, f"{kind} '{name}'", where=where))


def options_of(text: str, cls: type, owner: str, *, where: str = "") -> dict[str, typing.Any]:
    """`key=value` texts as what the fields of the dataclass `cls` hold; `owner` has them. Raises UsageError."""
    types = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    given = {}
    for item in re.findall(r"[^\s,]+", text):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"'{item}' is not an option", where=owner, hint=f"write {item}=VALUE")
        if key not in known:
            hint = did_you_mean(key, known, f"options: {', '.join(sorted(known)) or 'none'}")
            raise UsageError(f"{owner} has no option '{key}'", where=where, hint=hint)
        given[key] = _option(owner, key, value, types[key])
    return given


def _option(where: str, key: str, text: str, type_: object) -> object:
    try:
        return _parsed(text, type_)
    except (KeyError, ValueError):
        wanted = "|".join(map(str, typing.get_args(type_))) or getattr(type_, "__name__", str(type_))
        raise UsageError(
            f"'{text}' is not a value for {key}", where=where, hint=f"expected {wanted}"
        ) from None


def _parsed(text: str, type_: object) -> object:
    """Raises KeyError or ValueError when `text` is no value of the type."""
    if type_ is bool:
        return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
    if type_ in (int, float, str):
        return type_(text)  # type: ignore[operator]
    if typing.get_origin(type_) is tuple:
        item = typing.get_args(type_)[0]
        return tuple(_parsed(part, item) for part in text.split("+")) if text else ()
    if typing.get_origin(type_) is Literal and text in typing.get_args(type_):
        return text
    raise ValueError


def _print_option(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value)
