"""Grid and coarse-to-fine search: hand-checked points, what follows from which results, and the conductor over both."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import pytest
from test_conductor import FLOOR, Lane, Room, drive, essence

from losstune import load_results
from losstune.search import coarse_to_fine, grids, searching
from losstune.search.conductor import Conductor
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.measure import asked, plan_lines
from losstune.search.plan import Sizes
from losstune.search.points import key
from losstune.search.ranges import LossSpace
from losstune.search.standing import standing
from losstune.search.study import load_study
from losstune.spaces import SHARED, Choice, InputError, Real
from losstune.spaces.shared import NON_NEGATIVE

# What this file needs of a space is written here, so that the shipped defaults may change.
RATE = SHARED["learning_rate"]
DECAY = SHARED["weight_decay"]
SHARE = Real(0.04, 0.01, 0.3, "", "", legal=(0.0, 1.0, False, True))
WEIGHT = Real(1e-3, 1e-5, 1e-2, "", "", log=True, legal=NON_NEGATIVE)
NAMED = Choice("b", ("a", "b", "c"), "", "")


def space(loss="softmax", **searched) -> LossSpace:
    return LossSpace(loss, searched, {})


def exponents(values) -> list[float]:
    return [round(math.log10(value), 6) for value in values]


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


@pytest.fixture
def clock(monkeypatch):
    """What the search takes for the time: clock.now, in seconds."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, time=searching.time.time)
    monkeypatch.setattr(searching, "time", fake)
    return clock


@pytest.fixture
def load(tmp_path):
    """load(*changes): a study with these assignments."""

    def read_study(*changes: str):
        (tmp_path / "my.yaml").write_text("data: digits\nnetwork: mlp\nlosses: [softmax]\n")
        return load_study(tmp_path / "my.yaml", changes)

    return read_study


# --- the grid ---


@pytest.mark.parametrize(
    ("searched", "trials", "counts"),
    [
        ({"x": SHARE, "y": SHARE, "z": SHARE}, 16, [4, 2, 2]),
        ({"x": SHARE, "y": SHARE, "z": SHARE}, 18, [3, 3, 2]),
        ({"x": SHARE, "y": SHARE, "z": SHARE}, 8, [2, 2, 2]),
        ({"x": SHARE, "y": SHARE}, 16, [4, 4]),
        ({"x": SHARE, "y": SHARE}, 17, [4, 4]),
        ({"x": SHARE, "y": SHARE}, 7, [3, 2]),
        ({"x": SHARE}, 5, [5]),
        ({"x": SHARE, "n": NAMED, "y": SHARE}, 16, [2, 3, 2]),
        ({"n": NAMED, "x": SHARE}, 16, [3, 5]),
        ({"n": NAMED, "m": NAMED}, 16, [3, 3]),
        ({}, 16, []),
    ],
)
def test_a_range_is_cut_as_fine_as_the_trials_allow(searched, trials, counts):
    """The range with the fewest levels is raised first; lists and names are taken whole."""
    found = grids.levels(space(**searched), trials)
    assert list(found) == list(searched) and [len(values) for values in found.values()] == counts
    assert math.prod(counts) <= trials


def test_levels_lie_evenly_on_the_scale_with_both_ends():
    """Logarithmic and linear."""
    found = grids.levels(space(x=WEIGHT, y=SHARE), 16)
    assert found["x"] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert found["y"] == pytest.approx([0.01, 0.01 + 0.29 / 3, 0.01 + 0.58 / 3, 0.3])
    assert (found["x"][0], found["x"][-1], found["y"][0], found["y"][-1]) == (1e-5, 1e-2, 0.01, 0.3)


def walk(method, of: LossSpace, score=lambda point: 0.5, trials=500, sign=1, study="s", until=500, ends=None):
    """Ask one by one and score each at once; the history, and the name of each ask's stage.

    ends: point -> its state, complete by default.
    """
    history, names = [], []
    while len(history) < until:
        stage = method.stage(study, of, trials, history, sign)
        point = stage.next()
        if point is None or len(history) == trials:
            break
        names.append(stage.name)
        history.append({"parameters": point, "state": ends(point) if ends else "complete", "score": score(point)})
    return history, names


def points(history) -> list[dict]:
    return [row["parameters"] for row in history]


def test_the_grid_is_asked_once_and_whole_the_point_nearest_to_the_default_first():
    """Nearest on each hyperparameter's own scale: 10^-3.2 is nearer to 10^-3 than to 10^-4, though not in numbers."""
    weight = Real(10**-3.4, 1e-5, 1e-2, "", "", log=True, legal=NON_NEGATIVE)
    asks = points(walk(grids, space(x=weight, y=SHARE, n=NAMED), trials=24)[0])
    assert len(asks) == 24 == len(set(map(key, asks)))
    assert asks[0] == {"x": pytest.approx(1e-3), "y": 0.01, "n": "b"}
    assert {point["n"] for point in asks} == {"a", "b", "c"}


def test_between_two_levels_the_lower_is_first():
    """Whatever the last digits of the logarithms are."""
    for step in range(40):
        low, high = 10 ** (-6 + step / 7), 10 ** (-5 + step / 7)
        middle = Real(math.sqrt(low * high), low, high, "", "", log=True)
        assert points(walk(grids, space(x=middle), trials=2)[0])[0] == {"x": low}


def test_the_rest_is_shuffled_by_study_and_loss():
    """Seeded: the same again, another order for another loss or study, the same points."""
    of = dict(x=WEIGHT, y=SHARE)
    asks = [points(walk(grids, space(loss, **of), trials=16, study=study)[0])
            for loss, study in (("a", "s"), ("a", "s"), ("b", "s"), ("a", "t"))]  # fmt: skip
    assert asks[0] == asks[1] != asks[2] and asks[0] != asks[3]
    assert all({*map(key, one)} == {*map(key, asks[0])} and one[0] == asks[0][0] for one in asks)
    firsts = Counter(round(math.log10(point["x"])) for point in asks[0][:8])
    assert len(firsts) > 2, "a cut in the middle has seen most values"


def test_a_list_that_names_a_value_twice_has_it_once():
    """It would otherwise wait for a point that is asked already."""
    asks, _ = walk(grids, space(n=Choice(0.1, (0.1, 0.2, 0.1), "", "")), trials=5)
    assert sorted(point["n"] for point in points(asks)) == [0.1, 0.2]


# --- the grid, by the conductor ---

TAUS = "{cosine_softmax: {tau: [0.05, 0.1, 0.2], learning_rate: 0.1, weight_decay: 1e-4}}"


def test_a_study_asks_the_grids_and_is_done(room):
    """As many as a grid has points, though trials would be more; standing and plan say the same number."""
    conductor = room.conductor("search.method=grid", "search.trials=10", losses=f"softmax,{TAUS}")
    drive(Lane(conductor, "a", 6), Lane(conductor, "b", 6))
    count = Counter(row["loss"] for row in room.rows("search"))
    assert count == {"softmax": 9, "cosine_softmax": 3} == asked(conductor.study)
    now = standing(conductor.study, room.ledgers[-1], True)
    assert now.phase == "done" and {loss: row.wanted for loss, row in now.losses.items()} == count
    assert len(room.rows("confirm", state="complete")) == 4
    points_ = {key(row["parameters"]) for row in room.rows("search", loss="softmax")}
    assert len(points_) == 9
    lane = Lane(room.conductor("search.method=grid", "search.trials=10", losses=f"softmax,{TAUS}"))
    assert not lane.turn() and not lane.orders


def test_losses_with_grids_advance_in_step(room):
    """Until the smaller one has ended."""
    conductor = room.conductor("search.method=grid", "search.trials=9", losses=f"softmax,{TAUS},sigmoid")
    drive(Lane(conductor))
    order = [row["loss"] for row in sorted(room.rows("search"), key=lambda row: row["asked"])]
    assert order[:9] == ["softmax", "cosine_softmax", "sigmoid"] * 3 and order[9:] == ["softmax", "sigmoid"] * 6


def test_a_small_grid_does_not_cut_the_others_short(room, clock):
    """It has had all that it can have when the hours are up."""
    changes = "stop.hours=1", "search.method=grid", "search.trials=16"
    conductor = room.conductor(*changes, losses=f"softmax,{TAUS},sigmoid")
    lane = Lane(conductor)
    drive(lane, until=lambda: len(room.rows("search", loss="sigmoid")) == 7)
    clock.now = 3601
    drive(lane)
    assert Counter(row["loss"] for row in room.rows("search")) == {"softmax": 7, "sigmoid": 7, "cosine_softmax": 3}
    assert not room.rows("search", state="cut") and len(room.rows("confirm", state="complete")) == 6
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


def test_more_trials_go_on_with_the_finer_grid(room):
    """What was asked stays; nothing is asked twice; every loss still has as many as any other."""
    drive(Lane(room.conductor("search.method=grid", "search.trials=4")))
    drive(Lane(conductor := room.conductor("search.method=grid", "search.trials=9")))
    for loss in ("softmax", "sigmoid"):
        rows = room.rows("search", loss=loss)
        assert len(rows) == 9 == len({key(row["parameters"]) for row in rows})
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


def test_halving_stops_grid_points_too(room):
    """Optuna holds the trials, whoever proposes them."""
    drive(Lane(room.conductor("search.method=grid", "search.trials=16", losses="softmax")))
    assert {row["state"] for row in room.rows("search")} == {"complete", "stopped"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["search.trials=3"], "search.trials: 3 is too few for the grid of softmax, which has at least 4 points "
         "(learning_rate 2 x weight_decay 2); allowed: 4 or more"),
        (["losses=[softmax,{cosine_softmax: {tau: [0.05, 0.1, 0.2, 0.3, 0.4]}},{ce_el: {learning_rate: 0.1}}]"],
         "search.trials: 16 is too few for the grid of cosine_softmax, which has at least 20 points "
         "(learning_rate 2 x weight_decay 2 x tau 5); allowed: 20 or more"),
    ],
)  # fmt: skip
def test_a_grid_that_is_too_large_is_refused_with_the_trials_it_takes(load, changes, line):
    """One line that names the largest; with what it allows, all fit."""
    with pytest.raises(InputError) as error:
        load("search.method=grid", *changes)
    assert str(error.value).endswith(f"my.yaml: {line}")
    load("search.method=grid", *changes, f"search.trials={line.split()[-3]}")


@pytest.mark.parametrize("written", ["coarse-to-fine", "Grid", "bayes", "true", "null", "[grid]"])
def test_an_unknown_method_is_refused_with_those_there_are(load, written):
    """One line."""
    with pytest.raises(InputError) as error:
        load(f"search.method={written}")
    line = str(error.value)
    assert "my.yaml: search.method: " in line and "\n" not in line
    assert line.endswith("should be 'tpe', 'random', 'grid' or 'coarse_to_fine'")


def test_the_plan_shows_the_grids(load):
    """How many configurations, and what of."""
    lines = "\n".join(plan_lines(load("search.method=grid", f"losses=[softmax,{TAUS}]"), SIZES))
    assert "19 configurations (3 to 16 per loss) x 3 seeds" in lines
    assert "grid      softmax: learning_rate 4 x weight_decay 4 = 16\n" in lines
    assert "grid      cosine_softmax: tau 3 = 3\n" in lines
    lines = "\n".join(plan_lines(load("search.method=coarse_to_fine"), SIZES))
    assert "at most 16 configurations (16 per loss)" in lines
    assert "coarse    softmax: learning_rate 6 x weight_decay 4 = 24; search.trials, 16, ends it there" in lines


SIZES = Sizes(1221, 216, 360, 10, (1, 8, 8))


# --- coarse to fine: which points ---


def peak(rate: float, decay: float):
    """A score that is best at these exponents of learning rate and weight decay, and falls with the distance."""

    def score(point) -> float:
        return 1 - (math.log10(point["learning_rate"]) - rate) ** 2 - (math.log10(point["weight_decay"]) - decay) ** 2

    return score


BOTH = {"learning_rate": RATE, "weight_decay": DECAY}
A1 = [-2, -1.5, -1, -0.5, 0, 0.5], [-4.5, -4, -3.5, -3]


def pairs(history) -> list[tuple[float, float]]:
    return list(zip(*(exponents(point[name] for point in points(history)) for name in BOTH), strict=True))


def crossed(*lists) -> set[tuple[float, ...]]:
    return {(a, b) for a in lists[0] for b in lists[1]}


def test_the_papers_grid_then_double_granularity_around_the_best():
    """A.1's example: with the best at 10^-1, the fine learning rates are 10^-0.5, 10^-0.75 ... 10^-1.5."""
    history, names = walk(coarse_to_fine, space(**BOTH), peak(-1.1, -3.6))
    assert names == ["coarse"] * 24 + ["fine"] * 16
    asks = pairs(history)
    assert set(asks[:24]) == crossed(*A1) and asks[0] == (-1, -4)
    fine = crossed([-1.5, -1.25, -1, -0.75, -0.5], [-4, -3.75, -3.5, -3.25, -3])
    assert set(asks[24:]) == fine - crossed(*A1)
    assert set(asks[24:28]) == {(-1.25, -3.5), (-0.75, -3.5), (-1, -3.25), (-1, -3.75)}, "the nearest first"


def test_a_best_on_an_edge_extends_the_grid_there():
    """A whole slice over the weight decays, until the best is inside."""
    history, names = walk(coarse_to_fine, space(**BOTH), peak(0.9, -3.6))
    assert names == ["coarse"] * 24 + ["extended"] * 8 + ["fine"] * 16
    asks = pairs(history)
    assert set(asks[24:28]) == crossed([1], A1[1]) and set(asks[28:32]) == crossed([1.5], A1[1])
    assert set(asks[32:]) == crossed([0.5, 0.75, 1, 1.25, 1.5], [-4, -3.75, -3.5, -3.25, -3]) - set(asks[:32])
    known = [coarse_to_fine.stage("s", space(**BOTH), 500, history[:count], 1).last for count in range(49)]
    assert known == [False] * 32 + [True] * 17, "how many it comes to is known from the fine grid on"


def test_a_best_in_a_corner_extends_both_sides():
    """Seven by five then, so eleven points more; each side goes on by itself."""
    history, names = walk(coarse_to_fine, space(**BOTH), peak(-2.4, -5.1))
    asks = pairs(history)
    first = crossed([-2.5, *A1[0]], [-5, *A1[1]])
    assert set(asks[24:35]) == first - crossed(*A1) and len(first) == 35
    second = crossed([-3, -2.5, *A1[0]], [-5.5, -5, *A1[1]])
    assert set(asks[35:48]) == second - first and names[48] == "fine"
    assert asks[24] in {(-2.5, -4.5), (-2, -5)}, "the nearest first"


def test_opposite_edges_extend_one_after_the_other():
    """Above in the learning rate, below in the weight decay, each as far as it takes."""
    asks = pairs(walk(coarse_to_fine, space(**BOTH), peak(1.6, -4.9))[0])
    assert set(asks) == crossed([*A1[0], 1, 1.5, 2], [-5.5, -5, *A1[1]]) - {(2, -5.5)} | \
        crossed([1, 1.25, 1.5, 1.75, 2], [-5.5, -5.25, -5, -4.75, -4.5]) | {(2, -5.5)}  # fmt: skip


def test_at_most_four_steps_per_side():
    """However the score goes on rising; the fine grid lies around the edge then."""
    history, names = walk(coarse_to_fine, space(**BOTH), peak(9, -3.6))
    asks = pairs(history)
    assert names.count("extended") == 16 and max(rate for rate, _ in asks[:40]) == 2.5
    assert set(asks[40:]) == crossed([2, 2.25, 2.5, 2.75, 3], [-4, -3.75, -3.5, -3.25, -3]) - set(asks[:40])


def test_extension_stays_within_the_legal_bounds():
    """A learning rate that may not exceed 2, searched up to 1: two more decades would be outside."""
    rate = Real(0.1, 0.01, 1, "", "", log=True, legal=(0.0, 2.0, True, False))
    asks = points(walk(coarse_to_fine, space(learning_rate=rate, weight_decay=DECAY), peak(9, -3.6))[0])
    assert max(point["learning_rate"] for point in asks) == 2
    linear = Choice(0.0, (0.0, 1e-4, 2e-4), "", "")
    asks = points(walk(coarse_to_fine, space(weight_decay=linear), lambda point: -point["weight_decay"])[0])
    assert sorted(point["weight_decay"] for point in asks) == pytest.approx([0, 5e-5, 1e-4, 2e-4])


def test_own_hyperparameters_are_crossed_and_then_held_at_their_best():
    """A range at low, middle and high, a list whole."""
    of = space(**BOTH, beta=WEIGHT, n=NAMED)

    def score(point):
        return peak(0.9, -3.6)(point) - abs(math.log10(point["beta"]) + 3.5) - (point["n"] != "c")

    history, names = walk(coarse_to_fine, of, score)
    coarse = points(history)[: 24 * 9]
    assert names.index("extended") == 24 * 9 == len(set(map(key, coarse)))
    assert sorted({point["beta"] for point in coarse}) == pytest.approx([1e-5, 10**-3.5, 1e-2])
    assert coarse[0]["n"] == "b" and coarse[0]["beta"] == pytest.approx(10**-3.5)
    after = points(history)[24 * 9 :]
    assert {(point["n"], round(math.log10(point["beta"]), 9)) for point in after} == {("c", -3.5)}


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Real(0.1, 1e-3, 1e-1, "", "", log=True), [-3, -2.5, -2, -1.5, -1]),
        (Real(0.1, 0.05, 0.2, "", "", log=True), [round(math.log10(0.05), 6), round(math.log10(0.2), 6)]),
        (Choice(0.1, (0.3, 0.1, 1.0), "", ""), exponents([0.1, 0.3, 1.0])),
        (Real(0.1, 0.1, 0.5, "", ""), exponents([0.1, 0.2, 0.3, 0.4, 0.5])),
    ],
)
def test_what_the_study_gives_replaces_the_papers_grid(rate, expected):
    """A range is cut in half decades, a list stands as it is, a linear range has five levels."""
    found = coarse_to_fine.levels(space(learning_rate=rate, weight_decay=DECAY))
    assert exponents(found["learning_rate"]) == pytest.approx(expected, abs=1e-5)
    assert exponents(found["weight_decay"]) == A1[1]


def test_a_list_is_extended_by_its_own_step():
    """By the ratio at that end; between two values the middle of the scale."""
    rates = Choice(0.1, (0.1, 0.2, 0.8), "", "")
    history, _ = walk(coarse_to_fine, space(learning_rate=rates), lambda p: -abs(math.log10(p["learning_rate"] / 4)))
    rates = sorted(point["learning_rate"] for point in points(history))
    assert rates == pytest.approx([0.1, 0.2, 0.8, 1.6, 3.2, 6.4, 12.8])


def test_what_is_fixed_stays_fixed():
    """Only the other one is extended and refined; with both fixed the coarse grid is all there is."""
    history, names = walk(coarse_to_fine, space(learning_rate=RATE), lambda p: -abs(math.log10(p["learning_rate"]) + 1))
    assert names == ["coarse"] * 6 + ["fine"] * 2 and all(list(point) == ["learning_rate"] for point in points(history))
    history, names = walk(coarse_to_fine, space(n=NAMED, y=SHARE))
    history[-1]["state"] = "running"
    assert names == ["coarse"] * 9 and coarse_to_fine.stage("s", space(n=NAMED, y=SHARE), 99, history, 1).last


def test_the_lowest_is_best_where_lower_is_better():
    """The same score, turned round."""
    up, _ = walk(coarse_to_fine, space(**BOTH), peak(0.9, -3.6))
    down, _ = walk(coarse_to_fine, space(**BOTH), lambda point: -peak(0.9, -3.6)(point), sign=-1)
    assert points(up) == points(down)


def test_only_configurations_of_full_length_are_best():
    """Neither a failed one nor one that halving stopped, whatever it scored."""
    bad = {(0.5, -3.0): "failed", (-2.0, -3.0): "stopped"}

    def ends(point):
        return bad.get(tuple(exponents(point.values())), "complete")

    def score(point):
        return 9.0 if ends(point) != "complete" else peak(-1.1, -3.6)(point)

    assert walk(coarse_to_fine, space(**BOTH), score, ends=ends)[1] == ["coarse"] * 24 + ["fine"] * 16


def test_with_no_configuration_of_full_length_it_ends_after_the_coarse_grid():
    """There is nothing to go on from."""
    history, _ = walk(coarse_to_fine, space(**BOTH), ends=lambda point: "failed")
    assert len(history) == 24 and coarse_to_fine.stage("s", space(**BOTH), 99, history, 1).last


def test_equal_scores_do_not_extend_for_ever():
    """The first of equal ones is the best, so that a plateau ends the growth."""
    assert len(walk(coarse_to_fine, space(**BOTH))[0]) < 24 + 20


@pytest.mark.parametrize("where", [(-1.1, -3.6), (-2.4, -5.1), (9, -9)])
def test_the_next_point_follows_from_the_history_alone(where):
    """After any number of asks, read back from JSON, on a machine whose last digits differ."""
    history, _ = walk(coarse_to_fine, space(**BOTH), peak(*where))
    for count in range(len(history)):
        before = json.loads(json.dumps(history[:count]))
        for row in before:
            row["parameters"] = {name: value * (1 + 1e-14) for name, value in row["parameters"].items()}
        assert coarse_to_fine.stage("s", space(**BOTH), 500, before, 1).next() == history[count]["parameters"]


def test_a_stage_waits_for_its_results_and_is_asked_in_an_order_that_they_do_not_change():
    """However many are out at the same time."""
    of, history = space(**BOTH), []
    alone = points(walk(coarse_to_fine, of, peak(0.9, -3.6))[0])
    while True:
        stage = coarse_to_fine.stage("s", of, 500, history, 1)
        out = [row for row in history if row["state"] == "running"]
        if stage.left:
            history.append({"parameters": stage.next(), "state": "running", "score": None})
        elif out:
            assert stage.next() is None
            out[-1].update(state="complete", score=peak(0.9, -3.6)(out[-1]["parameters"]))
        else:
            break
    assert points(history) == alone


# --- coarse to fine, by the conductor ---


def by_rates(rate: float, decay: float):
    """Scores of a fake lane: the same for each seed, a little lower in early epochs."""
    score = peak(rate, decay)

    def of(trial, epoch, seed):
        return score({"learning_rate": trial.learning_rate, "weight_decay": trial.weight_decay}) / 10 - 0.01 / epoch

    return of


COARSE = "search.method=coarse_to_fine", "search.halving=null", "search.trials=60"


def asks(room: Room, loss="softmax") -> list[dict]:
    rows = sorted(room.rows("search", loss=loss), key=lambda row: row["number"])
    return [row["parameters"] for row in rows]


@pytest.mark.parametrize("lanes", [[3], [12], [3, 3, 9]])
def test_a_coarse_to_fine_study_is_done_before_its_cap(room, lanes):
    """With one lane or several, alone or many at a time: the same points, in the same order, and then confirm."""
    conductor = room.conductor(*COARSE)
    drive(*[Lane(conductor, str(n), width, by_rates(0.9, -3.6)) for n, width in enumerate(lanes)])
    walked = walk(coarse_to_fine, conductor.study.spaces["softmax"], peak(0.9, -3.6))[0]
    assert asks(room) == points(walked) and len(walked) == 48
    now = standing(conductor.study, room.ledgers[-1], True)
    assert now.phase == "done" and all((row.wanted, row.asked) == (48, 48) for row in now.losses.values())
    assert len(room.rows("confirm", state="complete")) == 4
    best = room.rows(id=room.read(read.all_choices)[0]["trial"])[0]["parameters"]
    assert exponents(best.values()) == [1, -3.5]


def test_the_cap_is_the_same_for_every_loss(room):
    """Wherever in its procedure a loss is; one that has ended asks no more."""
    conductor = room.conductor("search.method=coarse_to_fine", "search.halving=null", "search.trials=41",
                               losses="softmax,label_smoothing")  # fmt: skip
    drive(Lane(conductor, "a", 9, by_rates(-1.1, -3.6)))
    assert Counter(row["loss"] for row in room.rows("search")) == {"softmax": 40, "label_smoothing": 41}
    assert {"softmax": 41, "label_smoothing": 41} == asked(conductor.study)
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


def test_more_trials_go_on_with_a_capped_procedure_only(room):
    """The finished loss keeps what it has; nothing is asked twice."""
    changes = "search.method=coarse_to_fine", "search.halving=null"
    drive(Lane(room.conductor(*changes, "search.trials=30"), "a", 9, by_rates(-1.1, -3.6)))
    assert len(room.rows("search")) == 60
    drive(Lane(room.conductor(*changes, "search.trials=60"), "a", 9, by_rates(-1.1, -3.6)))
    drive(Lane(conductor := room.conductor(*changes, "search.trials=90"), "a", 9, by_rates(-1.1, -3.6)))
    assert len(room.rows("search")) == 80 and len({key(point) for point in asks(room)}) == 40
    assert {row["round"] for row in room.read(read.all_choices)} == {1}, "the third run had nothing to add"
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


@pytest.mark.parametrize("width", [3, 12])
def test_rebuilt_after_every_turn_it_asks_the_same(room, tmp_path, width):
    """kill -9 at any moment: the ledger is all that the next conductor has."""
    score, losses = by_rates(0.9, -5.1), "softmax"
    drive(Lane(room.conductor(*COARSE, losses=losses), width=width, score=score))
    (tmp_path / "other").mkdir()
    other, held = Room(tmp_path / "other"), {}
    for _ in range(500):
        lane = Lane(other.conductor(*COARSE, losses=losses), width=width, score=score)
        lane.send([])
        lane.held = {trial: (order, *held.get(trial, (0, []))) for trial, (order, _, _) in lane.held.items()}
        if lane.done or not lane.turn():
            break
        held = {trial: state[1:] for trial, state in lane.held.items()}
    assert essence(other.rows("search")) == essence(room.rows("search")) and len(room.rows("search")) > 40
    assert other.read(read.all_choices) == room.read(read.all_choices)
    other.close()


def until_one_waits(room: Room, conductor: Conductor) -> tuple[Lane, Lane]:
    """Two lanes over two losses, at the moment when one takes in the last coarse trial of softmax; that one first."""
    lanes = [Lane(conductor, slot, 3, by_rates(-1.1, -3.6)) for slot in "ab"]
    drive(*lanes, until=lambda: any(LAST in lane.held for lane in lanes))
    return tuple(sorted(lanes, key=lambda lane: LAST not in lane.held))


LAST = "search-softmax-0023"


def test_while_a_loss_waits_others_are_served(room):
    """Its last coarse trial is slow; a lane that holds nothing of it goes on with the other loss."""
    slow, quick = until_one_waits(room, room.conductor(*COARSE, losses="softmax,label_smoothing"))
    drive(quick, until=lambda: len(room.rows("search", loss="label_smoothing")) == 40)
    assert len(asks(room)) == 24, "nothing of the next stage before the last result of this one"
    drive(slow, quick)
    assert len(asks(room)) == 40 and slow.done and quick.done


def test_a_lane_that_waits_asks_again_and_is_neither_done_nor_fed(room):
    """One loss, one trial out: there is nothing for a second lane, and it is not sent home either."""
    conductor = room.conductor(*COARSE, losses="softmax")
    first, second = (Lane(conductor, slot, 3, by_rates(-1.1, -3.6)) for slot in "ab")
    drive(first, until=lambda: len(asks(room)) == 24)
    for _ in range(5):
        orders = second.send([])
        assert not orders.start and not orders.done
    drive(first, until=lambda: len(asks(room)) == 25)
    assert second.send([]).start
    drive(first, second)
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


def test_a_lane_that_dies_with_a_stages_last_trial_holds_nobody_up(room):
    """The trial is offered again; failed at last, it counts as ended."""
    conductor, score = room.conductor(*COARSE, losses="softmax"), by_rates(-1.1, -3.6)
    for _ in range(3):
        lane = Lane(conductor, "a", 3, score)
        drive(lane, until=lambda lane=lane: LAST in lane.held)
    waiting = Lane(conductor, "b", 3, score)
    drive(Lane(conductor, "a", 3, score), waiting)
    assert room.rows(id=LAST)[0]["state"] == "failed" and len(asks(room)) == 40


def test_hours_cut_losses_that_wait_and_losses_that_went_ahead_to_the_same_number(room, clock):
    """And more hours go on, from the same point."""
    losses = "softmax,label_smoothing"
    conductor = room.conductor(*COARSE, "stop.hours=1", losses=losses)
    slow, quick = until_one_waits(room, conductor)
    drive(quick, until=lambda: len(room.rows("search", loss="label_smoothing")) == 30)
    clock.now = 3601
    drive(slow, quick)
    counted = {row["loss"]: row["trials"] for row in room.read(get_meta, "choice_of")}
    assert counted == {"softmax": 24, "label_smoothing": 24}
    assert {int(row["trial"][-4:]) < 24 for row in room.read(read.all_choices)} == {True}
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"
    drive(Lane(room.conductor(*COARSE, "stop.hours=9", losses=losses), "c", 9, by_rates(-1.1, -3.6)))
    assert Counter(row["loss"] for row in room.rows("search")) == {"softmax": 40, "label_smoothing": 60}


def test_with_halving_the_procedure_still_ends(room):
    """Stopped trials are ended trials; what Optuna is told of lies within what it was told to expect."""
    conductor = room.conductor("search.method=coarse_to_fine", "search.trials=80")
    drive(Lane(conductor, "a", 9, by_rates(9, -9)), Lane(conductor, "b", 3, by_rates(9, -9)))
    assert {"stopped", "complete"} == {row["state"] for row in room.rows("search")}
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"
    trials = conductor.search.proposals["softmax"].study.get_trials(deepcopy=False)
    assert len(trials) == len(asks(room)) and all(trial.state.is_finished() for trial in trials)


def test_in_the_direction_of_the_studys_metric(room):
    """NLL: the lowest is best, in the procedure as in the choice."""
    conductor = room.conductor(*COARSE, "metric=nll", losses="softmax", greater_is_better=False)
    score = by_rates(0.9, -3.6)
    drive(Lane(conductor, "a", 9, lambda *trial: -score(*trial), metric="nll"))
    assert exponents(asks(room)[-1].values())[0] > 0.5 and len(asks(room)) == 48


def test_a_loss_with_nothing_to_search_is_asked_once_by_any_method(room):
    """Fixed is fixed."""
    for number, method in enumerate(("grid", "coarse_to_fine")):
        (room.folder / method).mkdir()
        other = Room(room.folder / method)
        drive(Lane(other.conductor(f"search.method={method}", "recipe.tune=[]")))
        assert [row["parameters"] for row in other.rows("search")] == [{}, {}], number
        other.close()


def test_values_beyond_the_range_of_the_space_come_back_from_the_ledger(tmp_path):
    """Optuna refuses what lies outside the distribution that it was told of."""
    (tmp_path / "s.yaml").write_text(
        "data: digits\nnetwork: mlp\nlosses: [{softmax: {learning_rate: {low: 0.1, high: 0.3}, weight_decay: 0.0}}]\n"
        "search: {method: coarse_to_fine, halving: null, trials: 40, seeds: 1}\nrecipe: {epochs: 1}\n"
    )
    study = load_study(tmp_path / "s.yaml")
    ledger = Ledger.create_or_open(tmp_path / "ledger.db")
    drive(Lane(Conductor(study, ledger, FLOOR, True), score=lambda t, e, s: t.learning_rate / 100))
    again = Conductor(study, ledger, FLOOR, True).search.proposals["softmax"]
    rates = [row["parameters"]["learning_rate"] for row in again.history]
    assert max(rates) > 20 and len(rates) == 2 + 4 + 3, rates
    ledger.close()


# --- for real ---

TINY = """\
data: digits
network: mlp
losses: [softmax]
recipe: {epochs: 2, learning_rate: {low: 1e-4, high: 1e-3}, weight_decay: 0}
search: {method: coarse_to_fine, trials: 6, seeds: 1, halving: null}
confirm: {seeds: 2}
resources: {max_lanes: 1}
"""


def test_a_real_study_goes_on_beyond_where_it_started_and_says_where_it_was_stopped(tmp_path, start, losstune):
    """Learning rates far too low: every extension helps, and the cap comes before the best is inside."""
    (tmp_path / "my.yaml").write_text(TINY)
    ended = start(tmp_path, "run", "my.yaml").wait()
    assert ended.status == 0, ended
    folder, of = tmp_path / "runs" / "my", load_study(tmp_path / "my.yaml").spaces["softmax"]
    ledger = Ledger.open(folder / "ledger" / "ledger.db")
    with ledger.reading() as tx:
        rows = sorted(read.all_trials(tx, "search"), key=lambda row: row["number"])
    ledger.close()
    scores = {key(row["parameters"]): row["score"] for row in rows}
    walked, names = walk(coarse_to_fine, of, lambda point: scores[key(point)], trials=6, study="my")
    assert points(rows) == points(walked) and names == ["coarse"] * 3 + ["extended"] * 3
    status = losstune("status", "my", "--out", tmp_path / "runs").out
    verdict = json.loads((folder / "report" / "verdict.json").read_text())
    page = (folder / "report" / "report.html").read_text()
    (edge,) = verdict["edges"]
    assert (edge["loss"], edge["hyperparameter"], edge["side"]) == ("softmax", "learning_rate", "upper")
    flag = "Range too narrow: softmax's learning_rate 0.0316 is at the upper end of 0.0001 to 0.0316; " \
           "try 0.0001 to 0.1"  # fmt: skip
    assert flag in status and flag in verdict["warnings"] and flag.replace("'", "&#x27;") in page
    assert "softmax met search.trials (6) before its end" in verdict["notes"][0]
    assert load_results(folder).edges == verdict["edges"]
    ledger = Ledger.create_or_open(folder / "ledger" / "ledger.db")
    with ledger.transaction() as tx:  # as where the package of a third party's loss is not installed
        fields = get_meta(tx, "fields")
        set_meta(tx, "fields", {**fields, "fields": {**fields["fields"], "losses": ["theirs"]}})
    ledger.close()
    assert load_results(folder).edges == [] and len(load_results(folder).members) == 2
