"""Reading a study file: YAML without the traps that YAML 1.1 sets for numbers, and one-line errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from losstune.spaces import InputError

LARGEST_FILE = 1_000_000  # bytes; the largest study anybody writes by hand is a hundredth of it


class _Loader(yaml.SafeLoader):
    """YAML with the numbers and booleans of version 1.2, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = "is not a name" if not isinstance(key, str) else "stands twice" if key in seen else None
            if problem:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} {problem}", key_node.start_mark)
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
# Version 1.1's constructor of integers would still read 010 in base 8.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


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
            raise InputError(f"{path}: larger than 1 MB; allowed: a study file")
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
