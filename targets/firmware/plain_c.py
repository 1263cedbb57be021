"""C99 and nothing else, for tool chains that are certified for no more: `compile --c-only`.

Printed C has branches for what a compiler or a core has: assembly, intrinsics, attributes. Each is between `#if` and
`#endif`, with plain C of the same results on the other side. `plain` takes that side:

    #if defined(__GNUC__) && defined(__ARM_FEATURE_DSP)        -->        the lines behind #else
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from graphopt.errors import UnsupportedError
from graphopt.targets.device import Target, load_target

EXTENSION = re.compile(r"__GNUC__|__clang__|__ARM_\w+|__riscv\w*")
"""Macros of compilers and of cores, none of which counts as defined."""

BEYOND_C99 = re.compile(r"\b(__asm__|asm|__attribute__|__builtin_\w+|__extension__|__typeof__|arm_\w+\.h)\b")

PLAIN_CORES = {"thumbv6m": "cortex-m0plus", "thumbv8m.base": "cortex-m0plus", "thumb": "cortex-m3"}
"""How triples begin -> the core of the catalog that has no more than plain C can say; the first that fits."""


def plain_core(target: Target) -> Target:
    """The target as templates see it that shall choose no kernel for an extension of its core."""
    for start, name in PLAIN_CORES.items():
        if target.triple.startswith(start):
            core = load_target(name)
            fields = ("triple", "cpu", "features", "vector_bits", "vector_registers")
            return dataclasses.replace(target, **{field: getattr(core, field) for field in fields})
    return target


def plain(text: str) -> str:
    """The text without branches that ask for an extension. Raises UnsupportedError where more than C99 is left."""
    lines = "\n".join(_Branches(text).kept())
    found = BEYOND_C99.search(lines)
    if found is not None:
        raise UnsupportedError(
            f"the C of a kernel has {found[0]} in a branch for every compiler", hint="report it"
        )
    return lines


@dataclass
class _Open:
    """A conditional that is open: whether it asks for an extension, and if so whether its lines are kept."""

    resolved: bool
    keeps: bool = True
    took: bool = False


class _Branches:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.unknown: set[str] = set()
        self.values: dict[str, str] = {}

    def kept(self) -> list[str]:
        found, stack = [], list[_Open]()
        for line in self.lines:
            directive = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif|define)\b\s*(.*)", line)
            word, rest = (directive[1], directive[2]) if directive else ("", "")
            if word in ("if", "ifdef", "ifndef"):
                stack.append(self._opened(word, rest))
                if stack[-1].resolved:
                    continue
            elif word in ("elif", "else", "endif") and stack[-1].resolved:
                self._turned(stack[-1], word, rest)
                if word == "endif":
                    stack.pop()
                continue
            elif word == "endif":
                stack.pop()
            dropped = any(not one.keeps for one in stack)
            if word == "define":
                name, _, value = rest.partition(" ")
                if dropped:
                    self.unknown.add(name)
                elif any(one.resolved for one in stack):
                    self.values[name] = value.strip()
            if not dropped:
                found.append(line)
        return found

    def _opened(self, word: str, condition: str) -> _Open:
        names = set(re.findall(r"[A-Za-z_]\w*", condition)) - {"defined"}
        known = self.unknown | self.values.keys()
        if not any(EXTENSION.fullmatch(name) or name in known for name in names):
            return _Open(False)
        holds = self._holds(condition if word == "if" else f"defined({condition.split()[0]})")
        holds = holds != (word == "ifndef")
        return _Open(True, holds, holds)

    def _turned(self, branch: _Open, word: str, condition: str) -> None:
        if word == "endif":
            return
        branch.keeps = not branch.took and (word == "else" or self._holds(condition))
        branch.took |= branch.keeps

    def _holds(self, condition: str) -> bool:
        """The condition's value, where no name is defined but those that kept lines define."""
        text = re.sub(r"/\*.*?\*/|//.*", "", condition)
        text = re.sub(r"defined\s*\(?\s*(\w+)\s*\)?", lambda m: str(int(m[1] in self.values)), text)
        text = re.sub(r"[A-Za-z_]\w*", lambda m: self.values.get(m[0]) or "0", text)
        if not re.fullmatch(r"[\d\s()&|!=]+", text):
            raise UnsupportedError(f"a condition of the C cannot be decided: {condition}", hint="report it")
        return _value(text)


def _value(text: str) -> bool:
    """Of digits, parentheses, `!`, `==`, `&&`, `||` and `&`; the innermost parentheses first."""
    while (inner := re.search(r"\(([^()]*)\)", text)) is not None:
        text = f"{text[: inner.start()]}{int(_value(inner[1]))}{text[inner.end() :]}"
    return any(all(_factor(factor.strip()) for factor in re.split(r"&&?", term)) for term in text.split("||"))


def _factor(text: str) -> bool:
    if "==" in text:
        return len({int(side) for side in text.split("==")}) == 1
    return not _factor(text[1:].strip()) if text.startswith("!") else int(text) != 0
