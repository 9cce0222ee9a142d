"""Memory: keep what was freed, and know when there is none left."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, rather than give each back to the system and fault it in
    again: a training step frees and takes the same ones for ever. Where there is no mallopt, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or of the machine, could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in message or "out of memory" in message)


def available(device: str) -> int:
    """Bytes that can still be had on a device; on a CPU within the limits of this process's control group."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free
    import psutil

    return min([psutil.virtual_memory().available, *_left_in_group()])


def _left_in_group() -> list[int]:
    """What the control group's limit leaves, where there is one."""
    found = []
    names = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for limit, used in names:
        with contextlib.suppress(OSError, ValueError):
            root = Path("/sys/fs/cgroup")
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
    return found
