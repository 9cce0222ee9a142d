"""The edge alarm: which chosen values lie at an end of what was searched, and what to try instead."""

import math

import pytest
from test_conductor import Lane, Room, drive

from losstune.analysis.wording import edge_sentence
from losstune.search.edges import edges, find_edges
from losstune.search.ledger import read
from losstune.search.ranges import LossSpace, narrow
from losstune.search.study import load_study
from losstune.spaces import SHARED, SPACES, Choice, Option, Real
from losstune.spaces.shared import NON_NEGATIVE

RATE, DECAY = SHARED["learning_rate"], SHARED["weight_decay"]
SHARE = Real(0.04, 0.0, 0.3, "", "", legal=(0.0, 1.0, False, True))
KEEP = Real(0.7, 0.5, 0.95, "", "", legal=(0.0, 1.0, True, False))


def flags(value, p, name="learning_rate", loss="softmax", **kwargs) -> list[dict]:
    return edges(LossSpace(loss, {name: p}, {}), {name: value}, **kwargs)


def flag(*arguments, **kwargs) -> tuple | None:
    """bound, side, try; None without a flag."""
    found = flags(*arguments, **kwargs)
    assert len(found) < 2
    return (found[0]["bound"], found[0]["side"], *found[0]["try"]) if found else None


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


# --- a range ---


def test_the_designs_example():
    """Half of three decades more, above."""
    (found,) = edges(LossSpace("sigmoid", {"learning_rate": RATE}, {}), {"learning_rate": 3.1})
    assert found == {"loss": "sigmoid", "hyperparameter": "learning_rate", "value": 3.1, "bound": 10**0.5,
                     "side": "upper", "try": [10**-2.5, pytest.approx(100)]}  # fmt: skip
    assert edge_sentence(found) == ("Range too narrow: sigmoid's learning_rate 3.1 is at the upper end of 0.00316 to "
                                    "3.16; try 0.00316 to 100")  # fmt: skip


@pytest.mark.parametrize(
    ("value", "flagged"),
    [(10**-2.5, True), (10**-2.441, True), (10**-2.439, False), (0.1, False), (10**0.439, False), (10**0.441, True),
     (10**0.5, True)],
)  # fmt: skip
def test_two_percent_of_the_width_on_a_log_scale(value, flagged):
    """0.06 of three decades, at either end."""
    assert bool(flags(value, RATE)) == flagged


@pytest.mark.parametrize(
    ("value", "flagged"), [(0.3, True), (0.2941, True), (0.2939, False), (0.0061, False), (0.15, False)]
)
def test_two_percent_of_the_width_on_a_linear_scale(value, flagged):
    """0.006 of 0.3."""
    assert bool(flags(value, SHARE)) == flagged


def test_below_it_is_the_lower_end_that_moves():
    """And the sentence says so."""
    (found,) = flags(1.05e-5, DECAY, "weight_decay")
    assert found["side"] == "lower" and found["try"] == [pytest.approx(10**-6.25), 10**-2.5]
    assert edge_sentence(found).endswith("is at the lower end of 1e-05 to 0.00316; try 5.62e-07 to 0.00316")


@pytest.mark.parametrize(
    ("p", "value", "expected"),
    [
        (SHARE, 0.0, None),  # the range reaches what is legal
        (SHARE, 0.3, (0.3, "upper", 0.0, 0.45)),
        (KEEP, 0.95, (0.95, "upper", 0.5, 1.0)),  # cut at a bound that is legal itself
        (KEEP, 0.5, (0.5, "lower", 0.275, 0.95)),
        (Real(0.7, 0.5, 1.0, "", "", legal=(0.0, 1.0, True, False)), 1.0, None),
        (Real(0.5, 0.1, 0.9, "", "", legal=(0.0, 1.0, False, True)), 0.9, (0.9, "upper", 0.1, 0.95)),  # 1 is not legal
        (Real(0.5, 0.1, 0.999, "", "", legal=(0.0, 1.0, False, True)), 0.999, None),  # as good as there
        (Real(0.5, 0.01, 0.1, "", "", log=True, legal=NON_NEGATIVE), 0.01, (0.01, "lower", 10**-2.5, 0.1)),
    ],
)
def test_legal_bounds_cut_what_to_try(p, value, expected):
    """Nothing is suggested that a study could not be set to."""
    found = flag(value, p)
    assert (found is None) == (expected is None)
    if expected:
        assert found[1] == expected[1] and (found[0], *found[2:]) == pytest.approx((expected[0], *expected[2:]))


def test_every_range_of_every_loss_can_be_followed():
    """What is tried instead is a legal range, and wider; its own ends flag again or reach the bound."""
    seen = 0
    for loss, space in SPACES.items():
        for name, p in {**space.shared(), **space.hyperparameters}.items():
            if not isinstance(p, Real) or not p.low < p.high:
                continue
            for end in (p.low, p.high):
                for found in flags(end, p, name, loss):
                    low, high = found["try"]
                    wider = narrow(p, {"low": low, "high": high}, "x")
                    assert wider.low <= p.low and wider.high >= p.high and high - low > p.high - p.low
                    seen += 1
    assert seen > len(SPACES)


# --- a list, names, what is fixed ---


@pytest.mark.parametrize(
    ("choices", "value", "expected"),
    [
        ((0.02, 0.04, 0.16), 0.16, (0.16, "upper", 0.02, 0.64)),  # logit_norm's tau is logarithmic: the same ratio
        ((0.16, 0.02, 0.04), 0.02, (0.02, "lower", 0.01, 0.16)),
        ((0.02, 0.04, 0.16), 0.04, None),
        ((0.02, 0.0201, 0.16), 0.0201, None),  # near the lowest is not the lowest
    ],
)
def test_the_end_of_a_list_of_numbers(choices, value, expected):
    """By a step of the list."""
    found = flag(value, Choice(0.04, choices, "", ""), "tau", "logit_norm")
    assert found == (expected and (*expected[:2], pytest.approx(expected[2]), pytest.approx(expected[3])))


@pytest.mark.parametrize(
    ("choices", "value", "expected"),
    [
        ((0.1, 0.2, 0.3), 0.3, (0.3, "upper", 0.1, 0.4)),  # label smoothing's alpha is linear: the same difference
        ((0.0, 0.1), 0.0, None),
        ((0.1, 0.4), 0.1, (0.1, "lower", 0.0, 0.4)),
        ((0.1, 0.9), 0.9, (0.9, "upper", 0.1, 0.95)),
    ],
)
def test_a_list_of_a_linear_hyperparameter(choices, value, expected):
    """Within its legal bounds."""
    found = flag(value, Choice(0.1, choices, "", ""), "alpha", "label_smoothing")
    assert found == (expected and (*expected[:2], pytest.approx(expected[2]), pytest.approx(expected[3])))


@pytest.mark.parametrize(
    ("choices", "value", "flagged"),
    [
        (("0", "0,0.5", "0-0.5"), "0-0.5", False),  # schedules have no order
        (("0", "0-0.5", 0.25), 0.25, False),
        (("0", 0.1, 0.2), 0.2, True),
        (("0", 0.1, 0.2), "0", False),  # nothing is legal below
        ((0.1, 0.25, 0.5), 0.5, False),  # nor above
    ],
)
def test_schedules_are_no_numbers_but_a_list_of_numbers_is(choices, value, flagged):
    """ce_el's F takes both; "0" is the number, and its plain numbers end at 0.5."""
    assert bool(flags(value, Choice("0", choices, "", ""), "F", "ce_el")) == flagged


def test_what_is_not_searched_is_never_flagged():
    """Fixed values, options."""
    space = LossSpace("label_smoothing", {"alpha": SHARE}, {"learning_rate": 10**0.5, "scaled": True})
    assert edges(space, {"alpha": 0.1}) == []
    assert isinstance(SPACES["label_smoothing"].hyperparameters["scaled"], Option)


def test_several_flags_of_one_loss():
    """In the order of its space."""
    space = LossSpace("softmax", {"learning_rate": RATE, "weight_decay": DECAY}, {})
    found = edges(space, {"learning_rate": RATE.low, "weight_decay": DECAY.high})
    assert [(one["hyperparameter"], one["side"]) for one in found] == [("learning_rate", "lower"),
                                                                       ("weight_decay", "upper")]  # fmt: skip


# --- coarse to fine ---


def tried(*values) -> list[dict]:
    return [{"learning_rate": value} for value in values]


def test_coarse_to_fine_is_measured_by_what_was_tried():
    """Not by the range of the space, which it may have left; a step of its grid more."""
    beyond = tried(0.1, 1.0, 10.0, 10**0.5, 10**1.25)
    assert flag(10**1.25, RATE, tried=beyond) == (10**1.25, "upper", 0.1, pytest.approx(10**1.75))
    assert flag(10**0.5, RATE, tried=beyond) is None
    assert flag(0.1, RATE, tried=beyond) == (0.1, "lower", pytest.approx(10**-1.5), 10**1.25)


def test_coarse_to_fine_is_not_alarmed_before_it_has_ended():
    """It will go on at that edge by itself; the loss's own hyperparameters do not move, and are flagged at once."""
    space = LossSpace("label_smoothing", {"learning_rate": RATE, "alpha": SHARE}, {})
    at_both = {"learning_rate": 10**0.5, "alpha": 0.3}
    points = [at_both, {"learning_rate": 0.1, "alpha": 0.15}]
    assert [one["hyperparameter"] for one in edges(space, at_both, points, over=False)] == ["alpha"]
    assert [one["hyperparameter"] for one in edges(space, at_both, points)] == ["learning_rate", "alpha"]


def test_one_value_tried_has_no_ends():
    """After the first ask, say."""
    assert flags(0.1, RATE, tried=tried(0.1)) == []


# --- of a study ---


def rising(trial, epoch, seed):
    """The higher the learning rate the better."""
    return 0.5 + math.log10(trial.learning_rate) / 100 + epoch / 1000


def found_in(room: Room, conductor) -> list[dict]:
    study = conductor.study
    return find_edges(study.spaces, study.search, room.rows("search"), room.read(read.all_choices), True)


def test_while_a_study_runs_its_best_so_far_is_flagged_then_its_choice(room):
    """Grid: the first of four points is not the best."""
    conductor = room.conductor("search.method=grid", "search.trials=4", "search.halving=null", losses="softmax")
    lane, seen = Lane(conductor, score=lambda *trial: 1 - rising(*trial)), []
    assert found_in(room, conductor) == []

    def look():
        rates = [one for one in found_in(room, conductor) if one["hyperparameter"] == "learning_rate"]
        seen.append([one["side"] for one in rates])

    drive(lane, until=look)
    sides = [sides for before, sides in zip([None, *seen], seen, strict=False) if sides != before]
    assert sides == [[], ["upper"], ["lower"]], "the default is nearer to the upper one, which is asked first"


def test_the_choice_counts_not_a_better_trial_beyond_a_cut(room):
    """What is confirmed is what is flagged."""
    conductor = room.conductor("search.method=grid", "search.trials=4", "search.halving=null", losses="softmax")
    drive(Lane(conductor, score=rising))
    rows = room.rows("search")
    low = next(row for row in rows if row["parameters"]["learning_rate"] == RATE.low)
    found = find_edges(conductor.study.spaces, conductor.study.search, rows, [{"loss": "softmax", "trial": low["id"]}],
                       True)  # fmt: skip
    assert ("learning_rate", "lower") in {(one["hyperparameter"], one["side"]) for one in found}
    assert find_edges(conductor.study.spaces, conductor.study.search, rows, [{"loss": "softmax", "trial": None}],
                      True) == []  # fmt: skip


def test_a_capped_coarse_to_fine_study_is_flagged_when_it_has_ended_and_not_before(room):
    """A cap in the middle of the extensions."""
    conductor = room.conductor("search.method=coarse_to_fine", "search.trials=30", "search.halving=null",
                               losses="softmax")  # fmt: skip
    lane = Lane(conductor, score=rising)
    drive(lane, until=lambda: len(room.rows("search", state="complete")) == 29)
    assert not [one for one in found_in(room, conductor) if one["hyperparameter"] == "learning_rate"]
    drive(lane)
    (rate,) = [one for one in found_in(room, conductor) if one["hyperparameter"] == "learning_rate"]
    assert rate["value"] == pytest.approx(10**1.5) and rate["try"] == pytest.approx([0.01, 100])


def test_a_coarse_to_fine_study_that_found_its_best_inside_has_no_flag(room):
    """That is what the extensions are for."""
    conductor = room.conductor("search.method=coarse_to_fine", "search.trials=90", "search.halving=null",
                               losses="softmax")  # fmt: skip

    def score(trial, epoch, seed):
        return 0.5 - abs(math.log10(trial.learning_rate) - 0.9) / 9 - abs(math.log10(trial.weight_decay) + 3.6) / 9

    drive(Lane(conductor, score=score))
    assert found_in(room, conductor) == []


def test_of_a_combination_and_of_values_that_depend_on_the_classes(tmp_path):
    """Names and bounds come from wherever the study took them."""
    (tmp_path / "s.yaml").write_text("data: digits\nnetwork: mlp\nlosses: [label_smoothing+dropout]\n")
    study = load_study(tmp_path / "s.yaml", ("losses=[{label_smoothing+dropout: {alpha: [0.1, 0.2], rho: 0.7}}]",))
    study.settle(10)
    (space,) = study.spaces.values()
    (found,) = edges(space, {"alpha": 0.2, "learning_rate": 0.1, "weight_decay": 1e-4})
    assert found["loss"] == "label_smoothing+dropout" and found["try"] == pytest.approx([0.1, 0.3])
