"""Successive halving decides as Optuna's own pruner does, and what is rebuilt from a ledger asks and decides alike."""

import random

import optuna
import pytest

from losstune.search.halving import Halving
from losstune.search.proposals import Proposals
from losstune.search.ranges import resolve
from losstune.search.recipe_part import RecipePart
from losstune.search.study import SearchPart


class Optunas:
    """The same questions to Optuna's pruner."""

    def __init__(self, first: int, factor: int, sign: int):
        pruner = optuna.pruners.SuccessiveHalvingPruner(first, factor, 0, 0)
        self.study = optuna.create_study(direction="maximize" if sign > 0 else "minimize", pruner=pruner)
        self.trials = [self.study.ask() for _ in range(60)]

    def stops(self, trial: int, epoch: int, score: float) -> bool:
        self.trials[trial].report(score, epoch)
        return self.trials[trial].should_prune()


@pytest.mark.parametrize("seed", range(12))
def test_it_decides_as_optunas_pruner_does(seed):
    """Trials in any order, ties, rungs that a trial has passed by without a score, in both directions."""
    draw = random.Random(seed)
    first, factor, sign = draw.choice([1, 2, 3]), draw.choice([2, 3, 4]), draw.choice([1, -1])
    ours, theirs = Halving(first, factor, sign), Optunas(first, factor, sign)
    left = {trial: [first * factor**rung for rung in range(5) if draw.random() < 0.85] for trial in range(60)}
    while left := {trial: epochs for trial, epochs in left.items() if epochs}:
        trial = draw.choice(list(left))
        epoch, score = left[trial].pop(0), draw.choice([draw.random(), draw.randrange(5) / 5])
        stops = ours.stops(trial, epoch, score)
        assert stops == theirs.stops(trial, epoch, score)
        if stops:
            del left[trial]


EPOCHS = 27


def live(method: str, sign: int, seed: int, losses: list) -> tuple[Proposals, list[dict], list[tuple], random.Random]:
    """Proposals that have seen forty trials in some order, and what a ledger would hold of them."""
    draw = random.Random(seed)
    proposals, rows, reports = make(method, sign, losses), [], []
    while len(rows) < 40:
        running = [row for row in rows if row["state"] == "running"]
        if len(running) < 4:
            parameters = proposals.ask(len(rows))
            rows.append({"parameters": parameters, "state": "running", "score": None, "rungs": [3, 9, EPOCHS]})
            continue
        row = draw.choice(running)
        number, epoch = rows.index(row), row["rungs"].pop(0)
        score = draw.random()
        row["score"] = score if row["score"] is None else sign * max(sign * score, sign * row["score"])
        if draw.random() < 0.1:
            row["state"] = draw.choice(["failed", "cut"])
        elif epoch == EPOCHS:
            row["state"] = "complete"
        else:
            reports.append((number, epoch, score))
            row["state"] = "stopped" if proposals.report(number, epoch, score) else "running"
        if row["state"] != "running":
            proposals.tell(number, row["state"], row["score"], 0.1)
    return proposals, rows, reports, draw


def make(method: str, sign: int, losses: list) -> Proposals:
    ((_, space),) = resolve(losses, RecipePart(epochs=EPOCHS), "a test").items()
    return Proposals("a test", space, SearchPart(method=method, trials=60), sign > 0)


def rebuilt(method: str, sign: int, losses: list, rows: list[dict], reports: list[tuple]) -> Proposals:
    proposals, scores = make(method, sign, losses), [{} for _ in rows]
    for number, epoch, score in reports:
        scores[number][epoch] = score
        proposals.decided(number, epoch, score)
    for row, own in zip(rows, scores, strict=True):
        proposals.restore(row["parameters"], own, row["state"], row["score"], 0.1)
    return proposals


@pytest.mark.parametrize("losses", [["label_smoothing"], [{"ce_el": {"F": ["0", "0-0.5", 0.3]}}]])
@pytest.mark.parametrize(("method", "sign", "seed"), [("tpe", 1, 0), ("tpe", -1, 1), ("random", 1, 2)])
def test_what_is_rebuilt_asks_and_decides_as_what_lived_through_it(method, sign, seed, losses):
    """All that Optuna knows is the same, and so is whatever comes next."""
    before, rows, reports, draw = live(method, sign, seed, losses)
    after = rebuilt(method, sign, losses, rows, reports)
    known = ("number", "state", "values", "params", "distributions", "intermediate_values")
    trials = [[tuple(getattr(trial, name) for name in known) for trial in proposals.study.get_trials()]
              for proposals in (before, after)]  # fmt: skip
    assert trials[0] == trials[1] and before.history == after.history
    for number, row in enumerate(rows):
        if row["state"] == "running":
            score = draw.random()
            assert before.report(number, row["rungs"][0], score) == after.report(number, row["rungs"][0], score)
    for number in range(len(rows), len(rows) + 5):
        assert before.ask(number) == after.ask(number)
