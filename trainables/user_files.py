"""The user's own files: where they are found, and functions from their Python text (`my_net.py:build`). No torch."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from losstune.spaces.errors import InputError

_REFERENCE = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")


def split_reference(spec: str) -> tuple[str, str] | None:
    """("my_net.py", "build") for "my_net.py:build"; None for anything else."""
    match = _REFERENCE.fullmatch(spec)
    return (match["file"], match["function"]) if match else None


def resolve_file(name: str, folder: Path, where: str) -> Path:
    """The file, looked for in the study's folder and then in the current directory; InputError when in neither."""
    for base in (Path(folder), Path.cwd()):
        path = base / Path(name).expanduser()
        if path.is_file():
            return path.resolve()
    raise InputError(f"{where}: there is no file {name}; allowed: a path relative to the study file's folder "
                     f"({folder}) or to the current directory, or an absolute path")  # fmt: skip


def read_text(name: str, folder: Path, where: str) -> str:
    """The text of the file; InputError when it is missing or not UTF-8 text."""
    path = resolve_file(name, folder, where)
    try:
        return path.read_text(encoding="utf-8-sig")  # Excel writes a mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: {name} cannot be read: {error}; allowed: a readable UTF-8 text file") from None


def load_function(spec: str, source: str, where: str, path: Path | None = None) -> Callable[..., Any]:
    """The function that spec ("FILE.py:FUNCTION") names, from the file's text.

    The text runs in a fresh module of our own name, so that a user's `analysis.py` shadows nothing. path: what the
    module sees as __file__. InputError when the text fails or lacks the function.
    """
    reference = split_reference(spec)
    if reference is None:
        raise InputError(f"{where}: {spec!r} does not name a function; allowed: FILE.py:FUNCTION")
    file, name = reference
    module = ModuleType(f"losstune_user_{Path(file).stem}")
    module.__file__ = str(path or file)
    sys.modules[module.__name__] = module  # where a dataclass looks for its module while it is made
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except Exception as error:
        raise InputError(f"{where}: {file} does not run: {explain(error, file)}") from error
    finally:
        del sys.modules[module.__name__]
    function = getattr(module, name, None)
    if not callable(function):
        defined = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputError(f"{where}: {file} defines no function {name}; found: {', '.join(defined) or 'none'}")
    return function


def call(function: Callable[..., Any], spec: str, where: str, *arguments: Any) -> Any:
    """function(*arguments); whatever it raises becomes an InputError that names type, message and line."""
    try:
        return function(*arguments)
    except Exception as error:
        reference = split_reference(spec)
        raise InputError(f"{where}: {spec} raised {explain(error, reference[0] if reference else spec)}") from error


def explain(error: BaseException, file: str) -> str:
    """An exception on one line: type, message, and the last line of the user's file that it passed through."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" + (f" (line {lines[-1]})" if lines else "")
