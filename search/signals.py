"""What Ctrl-C and SIGTERM do, and a signal's handler that is kept while a library takes it away beneath Python."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

AGAIN_SECONDS = 0.01  # after which a signal that would have been lost is sent again
# What logging has Python call around a fork, up to Python 3.12.
_AROUND_FORKS = {getattr(logging, name).__code__ for name in ("_acquireLock", "_releaseLock") if hasattr(logging, name)}
KEEP_SECONDS = 0.002  # between looks at the handler


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of Ctrl-C and SIGTERM: KeyboardInterrupt, as Python's own, or a moment later where it would be lost.

    Python ignores an exception in what it calls around a fork. It would not only lose the signal: logging's lock would
    stay held, and every other thread that logs would wait for it for ever.
    """
    if frame is not None and frame.f_code in _AROUND_FORKS:
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
    else:
        raise KeyboardInterrupt


@contextlib.contextmanager
def kept(number: int) -> Iterator[None]:
    """Put the handler of a signal back whenever it has changed, while within; from any thread.

    Ray's own code puts the system's handler of SIGTERM in its place when it ends. Python does not know of it, and
    signal.signal is for the main thread alone.
    """
    python = ctypes.pythonapi
    python.PyOS_getsig.restype = ctypes.c_void_p
    python.PyOS_setsig.argtypes = ctypes.c_int, ctypes.c_void_p
    handler, over = python.PyOS_getsig(number), threading.Event()

    def keep() -> None:
        last = False
        while not last:
            last = over.wait(KEEP_SECONDS)
            if python.PyOS_getsig(number) != handler:
                python.PyOS_setsig(number, handler)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


@contextlib.contextmanager
def python_handler_kept() -> Iterator[None]:
    """Put SIGTERM's handler of Python back at the end, where this is the main thread.

    A SystemExit that Ray's own handler raises meanwhile is what the signal means here: a KeyboardInterrupt.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(ValueError):  # not the main thread: then Ray has set no handler of its own
            signal.signal(signal.SIGTERM, before)
