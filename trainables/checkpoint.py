"""States of trials on disk: written whole or not at all, verified when read, never unpickled."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path


class DamagedCheckpoint(Exception):
    """A checkpoint that is missing, truncated or altered."""


def write(path: Path, state: dict) -> str:
    """Write a trial's state; the file's sha256 in hex. The file appears whole under its name or not at all."""
    import torch  # which who only writes bytes need not load

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file through a temporary one that reaches the disk before it takes the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: Path, digest: str) -> dict:
    """The state in a file; DamagedCheckpoint when it is not the one that was written."""
    import torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedCheckpoint(f"{path}: not what was written")
    return torch.load(io.BytesIO(content), weights_only=True)
