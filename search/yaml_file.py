"""Reading a study file: YAML without the traps that YAML 1.1 sets for numbers, and one-line errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from losstune.spaces import InputError

LARGEST_FILE = 50_000  # bytes; the largest study anybody writes by hand is a fifth of it
LARGEST_STUDY = 20_000  # values, those that aliases repeat counted each time
LONGEST_TEXT = 1000  # characters
DEEPEST = 20  # lists and mappings within each other
LARGEST_NUMBER = 2**53  # beyond it whole numbers and real ones are not the same


def _refused(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Loader(yaml.SafeLoader):
    """YAML with the numbers and booleans of version 1.2, and no key twice."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {}, 0)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = "is not a name" if not isinstance(key, str) else "stands twice" if key in seen else None
            if problem:
                raise _refused(f"the key {key!r:.60} {problem}", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text, 1:30 as 90, 010 as 8 and "no" as false. None of that is meant in a study.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false|True|False", list("tfTF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _whole(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    """Version 1.1's constructor of integers would still read 010 in base 8."""
    text = loader.construct_scalar(node)
    if len(text) > 20 or abs(int(text)) > LARGEST_NUMBER:
        raise _refused(f"{text[:20]} is too large a number", node)
    return int(text)


# Tags can ask for sets, bytes and dates, which no field of a study is.
_PLAIN = ("null", "bool", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: make for tag, make in _Loader.yaml_constructors.items()
    if tag is None or tag in [f"tag:yaml.org,2002:{name}" for name in _PLAIN]
}  # fmt: skip
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def _measure(node: yaml.Node, known: dict[yaml.Node, int | None], depth: int) -> int:
    """How many values a node stands for, each alias counted again: ten lines of them can stand for billions."""
    problem = None
    if node not in known:
        known[node] = None  # as long as it is not known, it is within itself
        inner = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else (pair,))
                 ] if isinstance(node, yaml.CollectionNode) else []  # fmt: skip
        problem = "nested too deeply" if depth > DEEPEST else None
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_TEXT:
            problem = f"a text of {len(node.value)} characters"
        if problem is None:
            known[node] = 1 + sum(_measure(child, known, depth + 1) for child in inner)
    if known[node] is None:
        problem = problem or "an alias of what it stands in"
    elif known[node] > LARGEST_STUDY:
        problem = "too many values"
    if problem:
        raise _refused(problem, node)
    return known[node]


def parse(text: str, where: str) -> Any:
    """The value of a YAML text; InputError gives the line of what cannot be read."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{where}{line}: {error.problem}; allowed: YAML") from None
    except Exception as error:  # PyYAML's constructors raise whatever Python does on a tag's odd value
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise InputError(f"{where}: {reason}; allowed: YAML") from None


def read(path: Path) -> dict[str, Any]:
    """The mapping in a study file; InputError when there is none."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE // 1000} kB; allowed: a study file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path}: {reason}; allowed: a study file") from None
    value = parse(text, str(path))
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds no fields; allowed: a mapping such as 'data: digits'")
    return value


def override(fields: dict[str, Any], assignment: str) -> None:
    """Apply one `--set key=value` in place; key may be dotted (search.trials=8), value is YAML."""
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {assignment}: no '='; allowed: key=value, for example search.trials=8")
    *path, last = key.strip().split(".")
    for name in path:
        inner = fields.setdefault(name, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {key}: {name} has no fields")
        fields = inner
    fields[last] = parse(text, f"--set {key}")
