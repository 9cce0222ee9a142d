"""States of trials on disk: written whole or not at all, verified when read, never unpickled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path

from losstune.trainables.disk import DiskError
from losstune.trainables.storage import Place, Stored, said_by


class DamagedCheckpoint(Exception):
    """A checkpoint that is missing, truncated or altered."""


def write(path: Place, state: dict) -> str:
    """Write a trial's state; the file's sha256 in hex. The file appears whole under its name or not at all."""
    import torch  # which who only writes bytes need not load

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return write_bytes(path, buffer.getvalue())


def write_bytes(path: Place, content: bytes) -> str:
    """Write a file through a temporary one that reaches the disk before it takes the name; its sha256 in hex.

    Raises DiskError where that cannot be done.
    """
    if isinstance(path, Stored):
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()
    try:
        _write_whole(path, content)
    except OSError as error:
        raise DiskError(error.errno, error.strerror, str(error.filename or path)) from error
    return hashlib.sha256(content).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # a part of it would take room on a disk that is full
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else a power cut may take the name back, after the ledger has recorded it
    finally:
        os.close(folder)


def read(path: Place, digest: str) -> dict:
    """The state in a file; DamagedCheckpoint when it is not the one that was written.

    DiskError where a store does not answer.
    """
    import torch

    try:
        content = path.read_bytes()
    except DiskError:
        raise  # a store that does not answer has damaged nothing
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: {said_by(error)}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedCheckpoint(f"{path}: not what was written")
    return torch.load(io.BytesIO(content), weights_only=True)
