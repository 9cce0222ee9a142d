"""TPE looks at a bounded part of a loss's trials, and the part follows from what the ledger holds."""

import random

import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from losstune.search import looked_at
from losstune.search.proposals import Proposals
from losstune.search.ranges import resolve
from losstune.search.recipe_part import RecipePart
from losstune.search.study import SearchPart
from losstune.trainables.seeds import derive

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def make(sign: int = 1) -> Proposals:
    ((_, space),) = resolve(["softmax"], RecipePart(epochs=27), "a test").items()
    return Proposals("a test", space, SearchPart(trials=5000), sign > 0)


def rows(count: int, sign: int = 1, seed: int = 0) -> list[dict]:
    """What a ledger holds of some trials: some ran to their end, most were stopped, a few were cut or run."""
    draw, space = random.Random(seed), make(sign).space
    kinds = ["complete"] * 3 + ["stopped"] * 5 + ["failed", "cut", "running"]
    found = []
    for _ in range(count):
        scores = {epoch: round(draw.random(), 2) for epoch in (3, 9)[: draw.choice([1, 2])]}
        parameters = {name: draw.uniform(p.low, p.high) for name, p in space.searched.items()}
        found.append({"parameters": parameters, "scores": scores, "state": draw.choice(kinds), "score": draw.random()})
    return found


def restored(known: list[dict], sign: int = 1) -> Proposals:
    proposals = make(sign)
    for row in known:
        proposals.restore(row["parameters"], row["scores"], row["state"], row["score"], 0.1)
    return proposals


def part(proposals: Proposals) -> list:
    with proposals.trials.bounded():
        return proposals.study.get_trials(deepcopy=False)


@pytest.fixture
def few(monkeypatch):
    """Small bounds."""
    monkeypatch.setattr(looked_at, "BEST", 4)
    monkeypatch.setattr(looked_at, "OTHERS", 12)


@pytest.mark.parametrize("count", [300, 1500])
def test_it_is_bounded(count):
    """Beside what runs, which the slots bound; whoever asks outside an ask sees all."""
    proposals = restored(rows(count))
    ended = [trial for trial in part(proposals) if trial.state in ENDED]
    assert len(ended) == min(looked_at.BEST + looked_at.OTHERS, sum(t.state in ENDED for t in proposals.study.trials))
    assert sum(trial.state == TrialState.RUNNING for trial in part(proposals)) == sum(
        trial.state == TrialState.RUNNING for trial in proposals.study.trials
    )
    assert len(proposals.study.trials) == count


def test_an_ask_looks_at_no_more(monkeypatch):
    """Optuna's sampler goes through all that it is given several times, parameter by parameter."""
    proposals, given = restored(rows(1200)), []
    get = proposals.trials.get_all_trials

    def counted(*arguments, **named):
        trials = get(*arguments, **named)
        given.append(sum(trial.state in ENDED for trial in trials))
        return trials

    monkeypatch.setattr(proposals.trials, "get_all_trials", counted)
    proposals.ask(1200)
    assert max(given) == looked_at.BEST + looked_at.OTHERS


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_are_those_that_tpe_takes_for_good_among_all(sign):
    """A tenth of what has ended, at most 25."""
    from optuna.samplers._tpe.sampler import _split_trials, default_gamma

    proposals = restored(rows(900, sign), sign)
    good = []
    for trials in (proposals.study.get_trials(deepcopy=False), part(proposals)):
        ended = [trial for trial in trials if trial.state in ENDED]
        good.append([trial.number for trial in _split_trials(proposals.study, ended, default_gamma(len(ended)))[0]])
    assert good[0] == good[1] and len(good[0]) == looked_at.BEST


def test_as_long_as_there_are_few_it_is_all():
    """A study of the usual size asks as Optuna's TPE does."""
    proposals = restored(rows(200))
    known = [trial for trial in proposals.study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]
    assert part(proposals) == known


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_trials_ended_is_no_matter(few, seed):
    """What lived through it in any order asks as what is rebuilt from the ledger."""
    known, draw = rows(80, seed=seed), random.Random(seed)
    proposals = make()
    for row in known:  # all at once, and then they end in some order
        proposals.restore(row["parameters"], row["scores"], "running", None, 0.1)
    for number in draw.sample(range(80), 80):
        if known[number]["state"] != "running":
            proposals.tell(number, known[number]["state"], known[number]["score"], 0.1)
    again = restored(known)
    assert [trial.number for trial in part(proposals)] == [trial.number for trial in part(again)]
    assert [proposals.ask(number) for number in range(80, 90)] == [again.ask(number) for number in range(80, 90)]


def test_the_others_are_spread_over_all_numbers(few, monkeypatch):
    """Neither the first nor the latest stand for all."""
    monkeypatch.setattr(looked_at, "OTHERS", 40)
    numbers = [trial.number for trial in part(restored(rows(1000))) if trial.state in ENDED]
    assert all(6 <= sum(start <= number < start + 250 for number in numbers) <= 16 for start in range(0, 1000, 250))


@pytest.mark.parametrize("loss", ["softmax", "squared_error"])
def test_asks_are_those_of_optunas_own_sampler(monkeypatch, loss):
    """It is spared to infer the space from all trials, at every ask; beyond the bound too."""

    def asked(own: bool) -> list[dict]:
        ((_, space),) = resolve([loss], RecipePart(epochs=27), "a test").items()
        proposals = Proposals("a test", space, SearchPart(trials=5000), True)
        draw, running, found = random.Random(1), [], []
        if own:
            monkeypatch.setattr(proposals, "_sampler", lambda number: TPESampler(
                seed=derive("a test", "proposals", loss, number) % 2**32))  # fmt: skip
        for number in range(280):
            found.append(proposals.ask(number))
            running.append(number)
            if len(running) > 4:
                trial, state = running.pop(draw.randrange(5)), draw.choice(["complete", "stopped", "failed"])
                proposals.report(trial, 3, draw.random())
                proposals.tell(trial, state, draw.random() if state == "complete" else None, 0.0)
        return found

    assert asked(own=False) == asked(own=True)
