"""A study with one slot, interrupted wherever it may be: real training and conductor, without Ray."""

import math
import random

import pytest
import torch
from test_conductor import essence

from losstune.search.conductor import Conductor
from losstune.search.job import make_job
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger
from losstune.search.plan import make_plan
from losstune.search.study import load_study
from losstune.trainables import lane as lanes
from losstune.trainables.lane import Lane

TEXT = """\
data: digits
network: mlp
losses: [softmax, label_smoothing, squared_error]
recipe: {epochs: 9, batch_size: 64, train_examples: 300}
search: {trials: 16, seeds: 2, halving: {first: 1, factor: 3}}
confirm: {seeds: 2}
resources: {members: 8, backend: batched}
"""


class Direct:
    """A lane's exchange with a conductor in the same process."""

    def __init__(self, conductor):
        self.conductor = conductor

    def send(self, message):
        self.message = message

    def answer(self, seconds):
        return self.conductor.exchange(self.message)


class Interrupted:
    """A study that is run in a folder, piece by piece."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "my.yaml").write_text(TEXT)
        self.folder, self.plan = folder, make_plan(load_study(folder / "my.yaml"))
        self.floor = {name: make_job(self.plan, folder).scorer.floor(self.plan.train.y, split)
                      for name, split in (("validation", self.plan.validation), ("test", self.plan.test))}  # fmt: skip

    def piece(self, turns: int = 10_000, death: str = "kill", saves=lambda: False) -> bool:
        """Some turns of a fresh conductor and lane, then their death: "kill", "stop" (gently), or "lane", after which
        the conductor lives on and gets another lane. saves: whether a turn ends with checkpoints; where a lane dies
        each does, for who twice had one die without a checkpoint between is tried alone. Whether the study has come to
        its end."""
        ledger = Ledger.create_or_open(self.folder / "runs" / "ledger" / "ledger.db")
        try:
            conductor = Conductor(self.plan.study, ledger, self.floor, True, self.plan.test)
            lane, goes_on = self._lane(conductor), True
            for turn in range(turns):
                if death == "lane" and turn == turns // 2:
                    lane = self._lane(conductor)
                lanes.CHECKPOINT_SECONDS = 0.0 if saves() or death == "lane" else math.inf
                goes_on = goes_on and lane.turn()
            if death == "stop":
                conductor.stop()
                while goes_on and lane.turn():
                    pass
            return not goes_on and not conductor.stopping
        finally:
            ledger.close()

    def _lane(self, conductor) -> Lane:
        lane = Lane(make_job(self.plan, self.folder / "runs"), self.plan.train, self.plan.validation,
                    Direct(conductor), f"lane-{random.random()}", alone=True)  # fmt: skip
        conductor.register("slot", lane.id, 0.0, "cpu")
        return lane

    def found(self) -> tuple:
        """All that evidence is made of."""
        ledger = Ledger.open(self.folder / "runs" / "ledger" / "ledger.db")
        with ledger.reading() as tx:
            rows, reports = read.all_trials(tx), read.all_reports(tx)
            choices = read.all_choices(tx)
        ledger.close()
        curves = {row["id"]: [epoch for report in reports if report["trial"] == row["id"] for epoch in report["curve"]]
                  for row in rows}  # fmt: skip
        return essence(rows), curves, choices


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    study = Interrupted(tmp_path_factory.mktemp("alone") / "undisturbed")
    assert study.piece()
    return study.found()


@pytest.mark.parametrize("seed", range(12))
def test_however_it_is_interrupted_it_ends_as_an_undisturbed_one(undisturbed, tmp_path, monkeypatch, seed):
    """Asks, decisions, curves, choices and results, bit for bit; whenever it dies, whatever checkpoints there are."""
    monkeypatch.setattr(lanes, "SAVING_SHARE", 0)
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", lanes.CHECKPOINT_SECONDS)
    draw, pieces = random.Random(seed), 1
    study, often = Interrupted(tmp_path / "interrupted"), draw.choice([0.1, 0.3, 0.9])
    while not study.piece(draw.randrange(2, 25), draw.choice(["kill", "kill", "stop", "lane"]),
                          lambda: draw.random() < often):  # fmt: skip
        pieces += 1
        assert pieces < 200
    for now, then in zip(study.found(), undisturbed, strict=True):
        assert now == then
