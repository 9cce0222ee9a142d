"""A study with one slot, interrupted wherever it may be: real training and conductor, without Ray."""

import math
import random

import pytest
import torch
from pieces import Pieces
from test_conductor import essence

from losstune.search.ledger import read
from losstune.trainables import lane as lanes

TEXT = """\
data: digits
network: mlp
losses: [softmax, label_smoothing, squared_error]
recipe: {epochs: 9, batch_size: 64, train_examples: 300}
search: {trials: 8, seeds: 2, halving: {first: 1, factor: 3}}
confirm: {seeds: 2}
resources: {members: 8, backend: batched}
"""


def piece(study: Pieces, turns: int = 10_000, death: str = "kill", saves=lambda: False) -> bool:
    """Some turns of a fresh conductor and lane, then their death: "kill", "stop" (gently), or "lane", after which
    the conductor lives on and gets another lane. saves: whether a turn ends with checkpoints; where a lane dies
    each does, for who twice had one die without a checkpoint between is tried alone. Whether the study has come to
    its end."""
    with study.conductor() as conductor:
        lane, goes_on = study.lane(conductor), True
        for turn in range(turns):
            if death == "lane" and turn == turns // 2:
                lane = study.lane(conductor)
            lanes.CHECKPOINT_SECONDS = 0.0 if saves() or death == "lane" else math.inf
            goes_on = goes_on and lane.turn()
        if death == "stop":
            conductor.stop()
            while goes_on and lane.turn():
                pass
        return not goes_on and not conductor.stopping


def found(study: Pieces) -> tuple:
    """All that evidence is made of."""
    curves: dict[str, list] = {}
    for trial, epoch in study.epochs():
        curves.setdefault(trial, []).append(epoch)
    return essence(study.read(read.all_trials)), curves, study.read(read.all_choices)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    study = Pieces(tmp_path_factory.mktemp("alone") / "undisturbed", TEXT)
    assert piece(study)
    return found(study)


@pytest.mark.parametrize("seed", range(8))
def test_however_it_is_interrupted_it_ends_as_an_undisturbed_one(undisturbed, tmp_path, monkeypatch, seed):
    """Asks, decisions, curves, choices and results, bit for bit; whenever it dies, whatever checkpoints there are."""
    monkeypatch.setattr(lanes, "SAVING_SHARE", 0)
    monkeypatch.setattr(lanes, "CHECKPOINT_SECONDS", lanes.CHECKPOINT_SECONDS)
    draw, pieces = random.Random(seed), 1
    study, often = Pieces(tmp_path / "interrupted", TEXT), draw.choice([0.1, 0.3, 0.9])
    while not piece(study, draw.randrange(2, 25), draw.choice(["kill", "kill", "stop", "lane"]),
                    lambda: draw.random() < often):  # fmt: skip
        pieces += 1
        assert pieces < 200
    for now, then in zip(found(study), undisturbed, strict=True):
        assert now == then
