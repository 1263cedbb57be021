"""Tokens of the text form, and the error that points at one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphopt.errors import GraphoptError
from graphopt.ir.literals import BARE, NUMBER, WORD, unquoted

STRING = r'"(?:[^"\\\n]|\\.)*"'

_TOKEN = re.compile(
    rf"""(?P<space>(?:[ \t\r\n]|\#[^\n]*)+)
    |(?P<bytes>b{STRING})
    |(?P<string>{STRING})
    |(?P<value>%(?:{BARE.pattern}|{STRING}))
    |(?P<node>@(?:{BARE.pattern}|{STRING}))
    |(?P<number>{NUMBER.pattern})
    |(?P<word>{WORD.pattern})
    |(?P<mark>::|[\[\](){{}},=:*])""",
    re.ASCII | re.VERBOSE,
)


class ParseError(GraphoptError):
    """Text that is not a graph. `line` and `column` count from 1; `excerpt` shows the line and a caret."""

    def __init__(self, what: str, source: str, offset: int) -> None:
        self.line = source.count("\n", 0, offset) + 1
        start = source.rfind("\n", 0, offset) + 1
        self.column = offset - start + 1
        text = source[start:].partition("\n")[0]
        self.excerpt = f"{text}\n{' ' * (self.column - 1)}^"
        super().__init__(what, where=f"line {self.line}, column {self.column}")

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.excerpt}"


@dataclass(frozen=True)
class Token:
    """`kind` is bytes, string, value, node, number, word, mark or end; `text` is as written."""

    kind: str
    text: str
    offset: int

    @property
    def name(self) -> str:
        """The name behind `%` or `@`, or of a word or string. Raises ValueError for a bad escape."""
        text = self.text[1:] if self.kind in ("value", "node") else self.text
        return unquoted(text) if text.startswith('"') else text

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else f"'{self.text}'"


def tokens_of(source: str, end: int) -> list[Token]:
    """The tokens of `source` up to `end`, and one that marks the end. Raises ParseError."""
    found: list[Token] = []
    offset = 0
    while offset < end:
        match = _TOKEN.match(source, offset, end)
        if match is None:
            raise ParseError(f"'{source[offset]}' does not belong here", source, offset)
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(Token(kind, match.group(), offset))
        offset = match.end()
    return [*found, Token("end", "", end)]
