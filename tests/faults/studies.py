"""The studies that are struck: small, on digits, with a metric of their own that counts, and misbehaves on request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# squared_error's wide range of learning rates has trials become NaN. The backend is fixed, for a measured one may round
# differently in every run; six members are two or three trials at a time.
ONE = """\
data: digits
network: mlp
metric: my_metric.py:score
losses: [softmax, label_smoothing, {squared_error: {learning_rate: {low: 0.03, high: 1.0e+4, log: true}}}]
recipe: {epochs: 9, batch_size: 32}
search: {trials: 6, seeds: 2, halving: {first: 1, factor: 3}}
confirm: {seeds: 3}
resources: {max_lanes: 1, members: 6, backend: sequential}
"""
TWO = ONE.replace("max_lanes: 1", "max_lanes: 2")
# Trials that train longer than lanes go without a checkpoint.
LONG = """\
data: digits
network: mlp
metric: my_metric.py:score
losses: [softmax, label_smoothing]
recipe: {epochs: 60, batch_size: 4}
search: {method: random, trials: 1, seeds: 2, halving: null}
confirm: {seeds: 2}
resources: {max_lanes: 1, members: 4, backend: sequential}
"""
# An epoch takes longer than a lane goes without a sign of life.
EPOCHS = """\
data: digits
network: small_cnn
metric: my_metric.py:score
losses: [softmax, label_smoothing]
recipe: {epochs: 2, batch_size: 2}
search: {method: random, trials: 1, seeds: 4, halving: null}
confirm: {seeds: 4}
resources: {max_lanes: 1, members: 8, backend: sequential}
"""
# What hangs is ended after six seconds.
STALLING = ONE + "stop: {stalled_minutes: 0.1}\n"
# Logits of cosine_softmax are cosines over tau: those of its second configuration, and of no other, exceed 100.
POISONED = """\
data: digits
network: mlp
metric: my_metric.py:score
losses:
  - softmax: {learning_rate: [0.1, 0.05], weight_decay: 1.0e-4}
  - cosine_softmax: {tau: [0.05, 0.001], learning_rate: 0.1, weight_decay: 1.0e-4}
recipe: {epochs: 6, batch_size: 32}
search: {method: grid, trials: 2, seeds: 2, halving: null}
confirm: {seeds: 2}
stop: {stalled_minutes: 0.1}
resources: {max_lanes: 1, members: 4, backend: sequential}
"""
POISON = "cosine_softmax", {"tau": 0.001}
# A file of a name beside the study has the next score, or every score of the poisoned configuration, misbehave.
METRIC = """\
import os, sys, time

FOLDER = {folder!r}
MISCHIEF = {{"hang": lambda: hang(), "abort": os.abort, "hog": lambda: hog([])}}


def score(logits, targets):
    if "losstune.trainables.lane" in sys.modules:  # a lane: others score too, when a metric is tried out
        tally = os.open(FOLDER + "/tally", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(tally, b".")
        os.close(tally)
        for name, act in MISCHIEF.items():
            misbehave(name, act, logits)
    return float((logits.argmax(1) == targets).mean())


def hang():
    time.sleep(1e6)


def hog(blocks):
    while True:
        blocks.append(b"x" * 2**28)
        time.sleep(0.05)


def misbehave(name, act, logits):
    if abs(logits).max() > 100 and os.path.exists(FOLDER + "/always-" + name):
        act()
    if os.path.exists(FOLDER + "/once-" + name):
        os.unlink(FOLDER + "/once-" + name)
        act()
"""


@dataclass(frozen=True)
class Text:
    """A study by name. exact: it has one slot, so that after any fault all is as in an undisturbed run.

    members, epochs: how much of its work is under way at a time, at most. like: the study whose undisturbed run this
    one's is; None: there is none to compare with.
    """

    name: str
    text: str
    exact: bool = True
    members: int = 6
    epochs: int = 9
    like: str | None = ""

    @property
    def reference(self) -> str | None:
        return self.name if self.like == "" else self.like

    def write(self, folder: Path) -> Path:
        """The study in a folder of its own."""
        folder.mkdir(parents=True)
        (folder / "my.yaml").write_text(self.text)
        (folder / "my_metric.py").write_text(METRIC.format(folder=str(folder)))
        return folder


STUDIES = {text.name: text for text in (
    Text("one slot", ONE), Text("two slots", TWO, exact=False, members=12), Text("long", LONG, members=4, epochs=60),
    Text("long epochs", EPOCHS, members=8, epochs=2),
    Text("stalling", STALLING, like="one slot"),
    Text("poisoned", POISONED, exact=False, members=4, epochs=6, like=None),
)}  # fmt: skip
