"""Schedules: the papers' numbers, torch's schedulers as oracles over whole runs, and what a study may say of them."""

import math
import pickle

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as torch_schedules

from losstune.spaces import InputError
from losstune.trainables.schedules import SCHEDULES, Cosine, Schedule, resolve


def by_epoch(spec, epochs: int, peak: float, steps: int = 7, at: int = 0) -> list[float]:
    """The learning rate at step `at` of every epoch."""
    schedule = resolve(spec, epochs)
    return [schedule.rate(peak, (epoch * steps + at) / (epochs * steps), epochs) for epoch in range(epochs)]


def by_step(spec, epochs: int, peak: float, steps: int) -> list[float]:
    schedule = resolve(spec, epochs)
    return [schedule.rate(peak, step / (epochs * steps), epochs) for step in range(epochs * steps)]


def of_torch(make, peak: float, count: int) -> list[float]:
    """What a scheduler of torch gives for `count` calls. make: from an optimizer."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler, rates = make(optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# --- the papers' ---


def test_zhou_steps_at_thirds_of_the_iterations():
    """0.1, 0.01, 0.001; where a third is no whole number of epochs, within one."""
    thirds = {"steps": {"at": ["1/3", "2/3"], "factor": 0.1}}
    rates = by_epoch(thirds, 30, 0.1)
    assert rates == pytest.approx([0.1] * 10 + [0.01] * 10 + [0.001] * 10)
    steps = by_step(thirds, 100, 0.1, steps=390)
    assert steps[12_999] == 0.1 and steps[13_000] == pytest.approx(0.01)
    assert steps[25_999] == pytest.approx(0.01) and steps[26_000] == pytest.approx(0.001)
    assert by_epoch("steps", 30, 0.1) == rates


def test_battash_steps_after_120_160_and_200_epochs():
    """The 121st epoch is the first at a tenth, from its first step on."""
    spec = {"steps": {"at": [120, 160, 200], "factor": 0.1}}
    expected = [0.1] * 120 + [0.01] * 40 + [0.001] * 40 + [0.0001] * 40
    assert by_epoch(spec, 240, 0.1) == pytest.approx(expected)
    assert by_epoch(spec, 240, 0.1, at=6) == pytest.approx(expected)


def test_demirkaya_quarters_at_the_end_of_five_epochs():
    """Five divisions by 4 leave 1/1024."""
    rates = by_epoch({"steps": {"at": [50, 80, 110, 150, 170], "factor": 0.25}}, 200, 0.4)
    assert [rates[epoch] / 0.4 for epoch in (0, 49, 50, 80, 110, 150, 170, 199)] == pytest.approx(
        [1, 1, 1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 1024, 1 / 1024], rel=1e-15)  # fmt: skip


def test_kornblith_warms_up_for_ten_epochs_to_1_6_and_decays_by_epochs():
    """0, 0.16 ... 1.44, then 1.6, 1.6 x 0.975, ..."""
    spec = {"exponential": {"warmup": 10, "rate": 0.975}}
    rates = by_epoch(spec, 150, 1.6)
    assert rates[:10] == pytest.approx([0.16 * epoch for epoch in range(10)])
    assert rates[10] == 1.6 and rates[11] == pytest.approx(1.56) and rates[12] == pytest.approx(1.521)
    assert rates[149] == pytest.approx(1.6 * 0.975**139)
    steps = by_step(spec, 150, 1.6, steps=4)
    assert steps[1] == pytest.approx(0.04) and steps[39] == pytest.approx(1.56) and steps[40:44] == [1.6] * 4


def test_kobayashi_goes_from_a_tenth_to_a_ten_thousandth_in_50_epochs():
    """As the author's code: numpy.logspace(-1, -4, 50)."""
    for at in (0, 6):
        assert by_epoch({"log_linear": {"to": 0.001}}, 50, 0.1, at=at) == pytest.approx(np.logspace(-1, -4, 50))


def test_cosine_is_the_one_that_studies_have_had_bit_for_bit():
    """eta/2 (1 + cos(pi progress)), at any step of any length: halving is exact, wherever it stands."""
    rng = np.random.RandomState(0)
    for _ in range(20_000):
        peak, epochs, steps = 10 ** rng.uniform(-6, 1), rng.randint(1, 400), rng.randint(1, 2000)
        progress = rng.randint(epochs * steps) / (epochs * steps)
        assert Schedule().rate(peak, progress, epochs) == peak * 0.5 * (1 + math.cos(math.pi * progress))


# --- torch's ---


def test_as_torch_steps_by_epochs():
    """MultiStepLR, which multiplies where we take a power."""
    expected = of_torch(lambda o: torch_schedules.MultiStepLR(o, [3, 8, 9], 0.2), 0.3, 12)
    assert by_epoch({"steps": {"at": [3, 8, 9], "factor": 0.2}}, 12, 0.3) == pytest.approx(expected, rel=1e-12)


def test_as_torch_decays_by_epochs():
    """ExponentialLR; and log_linear is the one that ends at its last rate."""
    expected = of_torch(lambda o: torch_schedules.ExponentialLR(o, 0.9), 0.3, 20)
    assert by_epoch({"exponential": {"rate": 0.9}}, 20, 0.3) == pytest.approx(expected, rel=1e-12)
    gamma = 0.01 ** (1 / 19)
    expected = of_torch(lambda o: torch_schedules.ExponentialLR(o, gamma), 0.3, 20)
    assert by_epoch({"log_linear": {"to": 0.01}}, 20, 0.3) == pytest.approx(expected, rel=1e-12)


def test_as_torch_follows_a_cosine_by_steps():
    """CosineAnnealingLR over all steps."""
    expected = of_torch(lambda o: torch_schedules.CosineAnnealingLR(o, 9 * 11), 0.3, 9 * 11)
    assert by_step("cosine", 9, 0.3, steps=11) == pytest.approx(expected, rel=1e-9, abs=1e-15)


WARMUP, LENGTH, STEPS, NEARLY_ZERO = 3, 12, 5, 1e-13  # LinearLR takes no start at zero
AFTER = WARMUP * STEPS
FOLLOWING = {
    "cosine": ({}, lambda o: torch_schedules.CosineAnnealingLR(o, (LENGTH - WARMUP) * STEPS)),
    "constant": ({}, lambda o: torch_schedules.ConstantLR(o, 1.0)),
    # Places of steps count from the start of training, those of SequentialLR from the end of the warmup.
    "steps": ({"at": [5, 9]}, lambda o: torch_schedules.MultiStepLR(o, [5 * STEPS - AFTER, 9 * STEPS - AFTER], 0.1)),
    "exponential": ({"rate": 0.8}, lambda o: torch_schedules.LambdaLR(o, lambda step: 0.8 ** (step // STEPS))),
    "log_linear": ({"to": 0.01}, lambda o: torch_schedules.LambdaLR(o, lambda step: 0.01 ** ((step // STEPS) / 8))),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_as_torch_warms_up_before_anything(name):
    """LinearLR, then the schedule over the epochs that are left, as SequentialLR joins them."""
    settings, following = FOLLOWING[name]

    def joined(optimizer):
        warmup = torch_schedules.LinearLR(optimizer, NEARLY_ZERO, 1.0, AFTER)
        return torch_schedules.SequentialLR(optimizer, [warmup, following(optimizer)], [AFTER])

    expected = of_torch(joined, 0.7, LENGTH * STEPS)
    found = by_step({name: {**settings, "warmup": WARMUP}}, LENGTH, 0.7, STEPS)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found[0] == 0 and found[AFTER] == 0.7


# --- what must hold of all ---


@pytest.mark.parametrize("steps", [1, 3, 19, 390, 20_003])
def test_an_epoch_begins_with_its_first_step(steps):
    """However long epochs are: no rounding of progress takes the step before for it, or leaves one behind."""
    for epochs in (27, 49, 97, 1000):
        every = resolve({"steps": {"at": list(range(1, epochs)), "factor": 0.5}}, epochs)
        decaying = resolve({"exponential": {"rate": 0.5}}, epochs)
        for epoch in range(0, epochs, 5):
            for step in {0, steps // 2, steps - 1}:
                progress = (epoch * steps + step) / (epochs * steps)
                for schedule in (every, decaying):
                    assert schedule.rate(1.0, progress, epochs) == 0.5**epoch


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_single_epoch_and_a_single_epoch_after_the_warmup(name):
    """Nothing to divide by; the peak is reached."""
    assert resolve(name, 1).rate(0.5, 0.0, 1) == 0.5
    at = {"at": [2]} if name == "steps" else {}
    assert resolve({name: {"warmup": 2, **at}}, 3).rate(1.0, 2 / 3, 3) == pytest.approx(0.1 if at else 1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_can_be_written_down_pickled_and_hashed(name):
    """What it is written as is read as the same again."""
    at = {"at": ["2/3"]} if name == "steps" else {}
    for spec in (name, {name: {"warmup": 4, **at}}):
        schedule = resolve(spec, 12)
        assert resolve(schedule.spec, 12) == schedule == pickle.loads(pickle.dumps(schedule))
        assert hash(schedule) == hash(resolve(spec, 12))
    assert resolve({name: None}, 12) == resolve({name: {}}, 12) == resolve(name, 12)


def test_what_schedules_are_written_as():
    """A name where there is nothing else to say: what studies of before have recorded stays the same."""
    assert resolve("cosine", 9).spec == "cosine" and Schedule(Cosine()) == Schedule() == resolve({"cosine": {}}, 9)
    assert resolve("constant", 9).spec == "constant"
    assert resolve({"steps": {"at": ["1/2", 7]}}, 9).spec == {"steps": {"at": [0.5, 7], "factor": 0.1}}
    assert resolve({"exponential": {"warmup": 2}}, 9).spec == {"exponential": {"rate": 0.975, "warmup": 2}}


PLACES = "allowed: a share of the full length such as 1/3 or 0.5, or whole epochs"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("linear", "recipe.schedule: unknown schedule 'linear'; allowed: cosine, constant, steps, exponential, "),
        (3, "recipe.schedule: unknown schedule 3; allowed: cosine"),
        ({}, "recipe.schedule: unknown schedule {}; allowed: cosine"),
        ({"cosine": {}, "steps": {}}, "recipe.schedule: unknown schedule"),
        ({"steps": 3}, "recipe.schedule.steps: 3 is not a mapping; allowed: at, factor, warmup"),
        ({"cosine": {"rate": 1}}, "recipe.schedule.cosine.rate: unknown key; allowed: warmup"),
        ({"exponential": {"rate": 0}}, "recipe.schedule.exponential.rate: 0 is out of bounds; allowed: (0, 1]"),
        ({"exponential": {"rate": 1.01}}, "recipe.schedule.exponential.rate: 1.01 is out of bounds; allowed: (0, 1]"),
        ({"exponential": {"rate": "0.9"}}, "recipe.schedule.exponential.rate: '0.9' is out of bounds"),
        ({"log_linear": {"to": -1}}, "recipe.schedule.log_linear.to: -1 is out of bounds; allowed: (0, 1]"),
        ({"log_linear": {"to": math.nan}}, "recipe.schedule.log_linear.to: nan is out of bounds; allowed: (0, 1]"),
        ({"steps": {"factor": True}}, "recipe.schedule.steps.factor: True is out of bounds; allowed: (0, 1]"),
        ({"cosine": {"warmup": 20}}, "recipe.schedule.cosine.warmup: 20 is not allowed; allowed: whole epochs below "),
        ({"cosine": {"warmup": 1.5}}, "recipe.schedule.cosine.warmup: 1.5 is not allowed"),
        ({"cosine": {"warmup": -1}}, "recipe.schedule.cosine.warmup: -1 is not allowed"),
        ({"cosine": {"warmup": math.inf}}, "recipe.schedule.cosine.warmup: inf is not allowed"),
        ({"cosine": {"warmup": None}}, "recipe.schedule.cosine.warmup: None is not allowed"),
        ({"steps": {"at": []}}, "recipe.schedule.steps.at: [] is not a list of places; allowed: shares"),
        ({"steps": {"at": 0.5}}, "recipe.schedule.steps.at: 0.5 is not a list of places; allowed: shares"),
        ({"steps": {"at": [1.0]}}, "recipe.schedule.steps.at: 1.0 is the end of training; allowed: a share below 1"),
        ({"steps": {"at": [0.6, 0.5]}}, "recipe.schedule.steps.at: 0.5 does not come after 0.6; allowed: places in"),
        ({"steps": {"at": [10, 0.5]}}, "recipe.schedule.steps.at: 0.5 does not come after 10"),
        ({"steps": {"at": [5, 20]}}, "recipe.schedule.steps.at: 20 is beyond the end; allowed: below recipe.epochs"),
        ({"steps": {"at": [0]}}, f"recipe.schedule.steps.at: 0 is no place in training; {PLACES}"),
        ({"steps": {"at": [-0.5]}}, f"recipe.schedule.steps.at: -0.5 is no place in training; {PLACES}"),
        ({"steps": {"at": [1.5]}}, f"recipe.schedule.steps.at: 1.5 is no place in training; {PLACES}"),
        ({"steps": {"at": ["3/2"]}}, f"recipe.schedule.steps.at: '3/2' is no place in training; {PLACES}"),
        ({"steps": {"at": ["1/0"]}}, f"recipe.schedule.steps.at: '1/0' is no place in training; {PLACES}"),
        ({"steps": {"at": [math.inf]}}, f"recipe.schedule.steps.at: inf is no place in training; {PLACES}"),
        ({"steps": {"at": [math.nan]}}, f"recipe.schedule.steps.at: nan is no place in training; {PLACES}"),
        ({"steps": {"at": [True]}}, f"recipe.schedule.steps.at: True is no place in training; {PLACES}"),
        ({"steps": {"at": [4, 9], "warmup": 5}}, "recipe.schedule.steps.at: 4 is within the warmup; allowed: from "),
        ({"steps": {"warmup": 15}}, "is within the warmup; allowed: from epoch 15 on"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_of_20_epochs(spec, line):
    """One line that names the setting, what is wrong and what is allowed."""
    with pytest.raises(InputError) as error:
        resolve(spec, 20)
    assert line in str(error.value) and "\n" not in str(error.value) and "allowed: " in str(error.value)


def test_a_schedule_may_end_its_warmup_at_its_first_step():
    """A third of 27 epochs is the ninth, though its share is rounded."""
    assert resolve({"steps": {"at": ["1/3"], "warmup": 9}}, 27).rate(1.0, 9 / 27, 27) == 0.1
