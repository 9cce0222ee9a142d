"""SIGTERM is heard, whatever Ray does with its handler."""

import signal
import subprocess
import sys

import pytest
from processes import GUARD

from losstune.search.signals import python_handler_kept

TAKEN = """
import ctypes, os, signal, sys, threading, time
from losstune.search.signals import kept

def take():
    ctypes.pythonapi.PyOS_setsig.argtypes = ctypes.c_int, ctypes.c_void_p
    with kept(signal.SIGTERM):
        ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, None)  # beneath Python: the system's handler
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
if sys.argv[1] == "main thread":
    take()
else:
    other = threading.Thread(target=take)
    other.start()
    other.join()
sys.exit(0 if heard else 1)
"""


@pytest.mark.parametrize("thread", ["main thread", "another thread"])
def test_a_handler_that_is_taken_away_beneath_python_is_put_back(thread):
    """At once, not when the library has come to its end."""
    assert subprocess.run([sys.executable, "-c", TAKEN, thread]).returncode == 0


IGNORED = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from losstune.search import cli
cli.app = lambda: os.kill(os.getpid(), signal.SIGINT)
cli.main()
"""


def test_ctrl_c_is_heard_where_a_script_has_it_ignored():
    """As `losstune run digits &` in one; before, it was heard while lanes trained, and not before and after."""
    assert subprocess.run([sys.executable, "-c", IGNORED]).returncode == 130


def test_rays_own_handler_is_replaced_and_what_it_raises_is_an_interruption():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), python_handler_kept():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


FORKING = """
import ctypes, functools, os, signal, sys, threading, time
order = {"after_in_parent": functools.partial(getattr(ctypes.CDLL(None), "raise"), int(sys.argv[1]))}
if sys.argv[2] == "before":
    import logging
    order = {"before": order["after_in_parent"]}
os.register_at_fork(**order)  # a C function: the handler runs in logging's own, which comes next
import logging
from losstune.search.signals import interrupt
signal.signal(int(sys.argv[1]), interrupt)
try:
    if os.fork() == 0:
        os._exit(0)
    time.sleep(60)
except KeyboardInterrupt:
    other = threading.Thread(target=logging.getLogger, args=("other",), daemon=True)
    other.start()
    other.join(30)
    print("heard, and another thread logs:", not other.is_alive())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_midst_of_a_fork_is_neither_lost_nor_holds_a_lock(number, moment):
    """Python ignores what is raised there."""
    script = [sys.executable, "-c", FORKING, str(int(number)), moment]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=GUARD)
    assert (ended.stdout, ended.stderr) == ("heard, and another thread logs: True\n", "")
