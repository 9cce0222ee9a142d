"""A process in which nothing moves ends by itself and says where it stood: real processes that really hang."""

import subprocess
import sys

import pytest

from losstune.trainables.stall import StallGuard, stall_path, stalled_at

GUARD = 120
HANG = """
import sys, time
from pathlib import Path
import numpy as np
from losstune.trainables.stall import StallGuard

def my_network():
    {hang}

guard = StallGuard(Path(sys.argv[1]), 0.5)
guard.moved()
print("hangs", flush=True)
my_network()
print("went on", flush=True)
"""
DEADLOCK = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()"
BUSY = "a = np.ones((3000, 3000))\n    while True: a @ a"
IN_C = "import re; re.match(r'(a+)+b', 'a' * 60)"  # one call that holds the interpreter's lock


def run(tmp_path, source: str) -> subprocess.CompletedProcess:
    """A script that is written to a file, for its name to be in the stack."""
    script = tmp_path / "my_net.py"
    script.write_text(source)
    return subprocess.run([sys.executable, str(script), str(tmp_path / "stalled.txt")], capture_output=True, text=True,
                          timeout=GUARD)  # fmt: skip


@pytest.mark.parametrize("hang", ["time.sleep(600)", "while True: pass", DEADLOCK, BUSY, IN_C])
def test_what_hangs_ends_and_says_where(tmp_path, hang):
    """Asleep, in an endless loop, waiting for a lock, in a library's code, in a C call that never lets go."""
    ended = run(tmp_path, HANG.format(hang=hang))
    assert ended.returncode != 0 and ended.stdout == "hangs\n", ended
    assert stalled_at(tmp_path / "stalled.txt").startswith(("in my_network of my_net.py, line ", "in match of "))
    assert "in my_network" in (tmp_path / "stalled.txt").read_text()


def test_the_stack_of_the_thread_that_trains_is_told_from_the_others(tmp_path):
    """Libraries have threads of their own, which wait all the time."""
    waiting = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ended = run(tmp_path, waiting + HANG.format(hang="time.sleep(600)"))
    assert ended.returncode != 0
    assert "my_network" in stalled_at(tmp_path / "stalled.txt")


def test_what_moves_is_left_alone(tmp_path):
    """Each sign of life sets the alarm anew; also those that come faster than the alarm is set."""
    source = HANG.replace("0.5)", "4.0)").format(hang="""for _ in range(60):
        time.sleep(0.1)
        guard.moved()""")
    ended = run(tmp_path, source)
    assert (ended.returncode, ended.stdout) == (0, "hangs\nwent on\n"), ended


def test_who_rests_need_not_move(tmp_path):
    """A lane that waits for the conductor's answer does not hang."""
    ended = run(tmp_path, HANG.format(hang="guard.rest()\n    time.sleep(2)"))
    assert (ended.returncode, ended.stdout) == (0, "hangs\nwent on\n"), ended
    assert stalled_at(tmp_path / "stalled.txt") is None


def test_after_a_rest_the_alarm_is_set_at_once(tmp_path):
    """A hang in the first step after an answer is found too."""
    ended = run(tmp_path, HANG.format(hang="guard.rest(); guard.moved()\n    time.sleep(600)"))
    assert ended.returncode != 0 and "my_network" in stalled_at(tmp_path / "stalled.txt")


def test_a_guard_that_is_closed_leaves_nothing(tmp_path):
    """Neither its file nor its alarm; and closing twice is no matter."""
    path = stall_path(tmp_path, "lane-1")
    guard = StallGuard(path, 0.5)
    guard.moved()
    assert path.is_file()
    guard.close()
    assert not path.exists() and stalled_at(path) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"Timeout (0:00:01)!\n", b"\xff\xfe\x00", b"  File ", b'  File "a.py", line 3', b"x" * 100_000],
)
def test_what_is_no_stack_says_nothing(tmp_path, content):
    """Half a file, or another's."""
    (tmp_path / "stalled.txt").write_bytes(content)
    assert stalled_at(tmp_path / "stalled.txt") is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('  File "/home/me/my_net.py", line 7 in forward', "in forward of my_net.py, line 7"),
        ('  File "/a b/in c/my_net.py", line 7 in <lambda>', "in <lambda> of my_net.py, line 7"),
        ('  File "<string>", line 1 in <module>', "in <module> of <string>, line 1"),
        ('  File "/a, b/my_net.py", line 7 in forward', "in forward of my_net.py, line 7"),
    ],
)
def test_the_innermost_place_is_named(tmp_path, line, said):
    """Of the first stack that is written."""
    rest = 'Thread 0x1 (most recent call first):\n  File "/outer.py", line 1 in outer\n'
    (tmp_path / "stalled.txt").write_text(f"Timeout (0:00:01)!\nThread 0x2 (most recent call first):\n{line}\n{rest}")
    assert stalled_at(tmp_path / "stalled.txt") == said
