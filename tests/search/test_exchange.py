"""Lanes that train on while the conductor decides: places, costs and shares, with made-up lanes; and what it keeps."""

import random
from types import SimpleNamespace

import pytest
from test_conductor import Lane, Room, by_number, drive, essence

from losstune.search import blame, places, searching
from losstune.search.ledger import read
from losstune.search.recorded import _budget
from losstune.search.standing import standing
from losstune.trainables.messages import Message, Report


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


@pytest.fixture
def clock(monkeypatch):
    """What the search takes for the time: clock.now, in seconds."""
    clock = SimpleNamespace(now=0.0)
    for module in (searching, blame, places):
        fake = SimpleNamespace(monotonic=lambda: clock.now, time=module.time.time)
        monkeypatch.setattr(module, "time", fake)
    return clock


def curve(first: int, last: int) -> list[dict]:
    return [{"epoch": epoch, "train_loss": [0.5] * 3, "scores": {"accuracy": [0.5] * 3}}
            for epoch in range(first, last + 1)]  # fmt: skip


def begun(room, **settings) -> tuple[Lane, str]:
    """A lane of three places, and the trial that it has."""
    lane = Lane(room.conductor(losses="softmax", **settings))
    lane.send([])
    (trial,) = lane.held
    return lane, trial


# --- answers that come late ---


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("seed", range(6))
def test_however_late_answers_are_nothing_is_lost_or_counted_twice(room, clock, seed, width):
    """Not a trial, an epoch or a place: made-up lanes refuse what they have no room for."""
    draw = random.Random(seed)
    conductor = room.conductor("search.trials=12", "search.halving.first=1", "stop.hours=1", slots=2)

    def fails(trial, epoch):
        return "wild" if random.Random(f"{trial.id} {epoch}").random() < 0.02 else None

    lanes = [Lane(conductor, slot, width, fails=fails, single=True, late=lambda: draw.choice([0, 1, 1, 2, 9]))
             for slot in "ab"]  # fmt: skip
    if seed % 2:
        drive(*lanes, until=lambda: len(room.rows("search")) > 15)
        clock.now = 3601
    drive(*lanes)
    assert not room.rows(state="running") and len(room.rows("confirm")) == 4
    assert sum(row["trained"] for row in room.rows()) == sum(lane.trained for lane in lanes)
    for row in room.rows():
        epochs = [epoch["epoch"] for report in room.read(read.all_reports) if report["trial"] == row["id"]
                  for epoch in report["curve"]]  # fmt: skip
        assert epochs == list(range(1, len(epochs) + 1))
        assert row["trained"] >= row["epoch"] == len(epochs) or row["state"] in ("failed", "cut")


def test_what_a_stopped_trial_trained_beyond_its_rung_is_cost_and_nothing_else(room):
    """Epochs 4 and 5 of one that is stopped at 3: neither in its curve nor in its score, but in the budget."""
    table = {n: [0.9] * 9 for n in range(3)} | {3: [0.1] * 3 + [0.99] * 6}
    conductor = room.conductor("search.trials=4", losses="softmax")
    lane = Lane(conductor, score=by_number(table), single=True)
    drive(lane, until=lambda: "search-softmax-0003" in lane.held)
    lane.late = lambda: 2
    drive(lane)
    row = room.rows("search", number=3)[0]
    assert (row["state"], row["epoch"], row["trained"], row["score"]) == ("stopped", 3, 5, pytest.approx(0.1))
    assert row["slot_seconds"] == pytest.approx(0.2)  # two reports of the made-up lane
    reports = [report for report in room.read(read.all_reports) if report["trial"] == row["id"]]
    assert [(report["epoch"], report["decision"]) for report in reports] == [(3, "stop")]
    spent = 3 * sum(row["trained"] for row in room.rows("search"))
    recorded = _budget(room.rows("search"), ["softmax"], {}).set_index("phase")["member_epochs"]
    now = standing(conductor.study, room.ledgers[-1], True)
    confirm = sum(row["trained"] for row in room.rows("confirm"))
    assert recorded["search"] == spent == now.member_epochs - confirm


def test_a_trial_that_passed_two_rungs_unheard_is_judged_at_the_first(room):
    """Whatever it scored later, as if the lane had waited."""
    table = {n: [0.9] * 9 for n in range(3)} | {3: [0.1] * 3 + [0.99] * 6}
    conductor = room.conductor("search.trials=4", "confirm.seeds=9", losses="softmax")
    lane = Lane(conductor, score=by_number(table))
    drive(lane, until=lambda: "search-softmax-0003" in lane.held)
    news = [lane._train("search-softmax-0003") for _ in range(9)]
    orders = lane.say([report for report in news if report])
    (row,) = room.rows("search", number=3)
    assert (row["state"], row["epoch"], row["trained"]) == ("stopped", 3, 9) and row["score"] == pytest.approx(0.1)
    assert [order.trial.phase for order in orders.start] == 3 * ["confirm"] and orders.stop == []


def test_a_trial_at_its_end_has_left_and_its_places_are_told_once(room):
    """They are free in the message that reports it; with one trial's places there is one new trial."""
    lane, trial = begun(room)
    news = [lane._train(trial) for _ in range(9)]
    assert lane.free == 3
    orders = lane.say([report for report in news if report])
    assert [order.trial.id for order in orders.start] == ["search-softmax-0001"] and orders.stop == []


def test_a_cut_trial_that_has_left_meanwhile_frees_no_place_again(room, clock):
    """The cut comes between its lane's last message and the report of its end."""
    conductor = room.conductor("stop.hours=1", "search.trials=20", losses="softmax,sigmoid,logit_norm", slots=2)
    lanes = [Lane(conductor, slot, width=6, single=True) for slot in "ab"]
    drive(*lanes, until=lambda: len(room.rows("search")) == 4)
    other, lane = sorted(lanes, key=lambda lane: "search-softmax-0001" in lane.held)
    news = [lane._train("search-softmax-0001") for _ in range(9)]
    clock.now = 3601
    other.turn()
    assert room.rows("search", id="search-softmax-0001", state="cut")
    lane.send([report for report in news if report])
    drive(*lanes)
    assert not room.rows(state="running")


# --- said twice ---


def test_a_message_twice_gets_the_answer_that_it_got(room):
    """Its answer was lost on its way; what was ordered is not ordered once more."""
    lane, trial = begun(room)
    message = Message(lane.id, 2, [Report(trial, 1, 9, curve(1, 9), 0.5, left=True)], 3, 1.0)
    answer, before = lane.conductor.exchange(message), room.rows()
    assert answer.start and lane.conductor.exchange(message) == answer and room.rows() == before


def test_a_report_twice_costs_once(room):
    """In the same message or in a later one, with what has come since or without."""
    lane, trial = begun(room)
    first = Report(trial, 1, 3, curve(1, 3), 0.5)
    lane.say([first, first])
    lane.say([first, Report(trial, 1, 5, curve(4, 5), 0.25)])
    (row,) = room.rows()
    assert (row["epoch"], row["trained"], row["slot_seconds"]) == (5, 5, 0.75)


def test_epochs_trained_again_after_a_lane_died_are_trained_twice(room):
    """The curve has them once; the budget says what they cost."""
    lane, trial = begun(room)
    lane.say([Report(trial, 1, 3, curve(1, 3), 0.5)])
    again = Lane(lane.conductor)
    again.send([])
    again.say([Report(trial, 2, 3, curve(1, 3), 0.5), Report(trial, 2, 4, curve(4, 4), 0.25)])
    (row,) = room.rows()
    assert (row["epoch"], row["trained"], row["slot_seconds"]) == (4, 7, 1.25)


def test_a_lane_that_dies_before_it_hears_loses_nothing_and_repeats_nothing(room):
    """What it had said is committed, and decided; what it was ordered is offered again."""
    conductor = room.conductor(losses="softmax")
    lane = Lane(conductor, width=6)
    lane.send([])
    news = {trial: [report for _ in range(9) if (report := lane._train(trial))] for trial in list(lane.held)}
    orders = lane.say([*news["search-softmax-0000"], news["search-softmax-0001"][0]])
    unheard = [order.trial.id for order in orders.start]
    assert unheard
    offered = [order.trial.id for order in Lane(conductor, width=6).send([]).start]
    drive(Lane(conductor, width=6))
    assert len(offered) == 2 and set(offered) <= {*unheard, "search-softmax-0001"}  # all that there are places for
    (ended,) = room.rows("search", number=0)
    assert (ended["state"], ended["attempt"], ended["trained"]) == ("complete", 1, 9)
    assert len(room.rows("search")) == 6 and not room.rows(state="running")
    at = [(report["trial"], report["epoch"]) for report in room.read(read.all_reports)]
    assert len(at) == len(set(at))


# --- shares ---


def members(lane: Lane) -> int:
    return lane.width - lane.free


def test_what_is_left_is_shared(room):
    """12 trials of three members for two lanes, each of which would have room for ten: six each."""
    conductor = room.conductor(slots=2)
    lanes = [Lane(conductor, slot, width=30) for slot in "ab"]
    for lane in lanes:
        lane.send([])
    assert [members(lane) for lane in lanes] == [18, 18]


def test_nothing_is_held_back_while_plenty_is_left(room):
    """A lane's places are filled as long as its part is larger."""
    conductor = room.conductor(slots=2)
    lanes = [Lane(conductor, slot, width=9) for slot in "ab"]
    for lane in lanes:
        lane.send([])
    assert [members(lane) for lane in lanes] == [9, 9]


@pytest.mark.parametrize(("trials", "expected"), [(1, [3, 0]), (2, [3, 3]), (3, [6, 3]), (5, [9, 6])])
def test_a_share_is_whole_trials(room, trials, expected):
    """At least one; and no lane idles where another has two to begin."""
    conductor = room.conductor(f"search.trials={trials}", losses="softmax", slots=2)
    lanes = [Lane(conductor, slot, width=30) for slot in "ab"]
    for lane in lanes:
        lane.send([])
    assert [members(lane) for lane in lanes] == expected


def test_confirm_is_shared_too(room):
    """Eight members of two losses, for two lanes."""
    conductor = room.conductor("confirm.seeds=4", slots=2)
    lanes = [Lane(conductor, slot, width=30) for slot in "ab"]
    drive(*lanes, until=lambda: len(room.rows("confirm")) > 4)
    held = [sum(order.trial.phase == "confirm" for order in lane.orders) for lane in lanes]
    assert held == [4, 4]


def test_lanes_that_do_not_come_are_reckoned_with_for_a_while_only(room, clock):
    """A cluster that stays smaller than it was hoped to be is not left half idle."""
    conductor = room.conductor(slots=4)
    lane = Lane(conductor, width=36)
    lane.send([])
    assert members(lane) == 9
    clock.now = 61
    lane.send([])
    assert members(lane) == 36


def test_the_end_of_a_study_is_the_same_however_it_was_shared(room, tmp_path):
    """Which lane trains what changes no score; random configurations follow from nothing."""
    drive(Lane(room.conductor("search.method=random", "search.halving=null"), width=30))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    conductor = other.conductor("search.method=random", "search.halving=null", slots=3)
    drive(*(Lane(conductor, slot, width=30, late=lambda: 2) for slot in "abc"))
    first, second = (sorted(essence(rows), key=str) for rows in (room.rows(), other.rows()))
    assert first == second
    other.close()


# --- what else the conductor keeps ---


def test_the_first_measured_backend_counts_and_is_kept(room):
    """For the study and the kind of device, over restarts."""
    conductor, first, second = room.conductor(), {"kind": "batched", "together": 8}, {"kind": "vmap", "together": 4}
    assert conductor.backend_of("H200") is None
    assert conductor.measured("H200", first) == conductor.measured("H200", second) == first
    assert conductor.backend_of("H200") == first and conductor.backend_of("cpu") is None
    Lane(conductor)
    again = room.conductor()
    assert again.backend_of("H200") == first and again.measured("cpu", second) == second
    assert again.backend_of("H200") == first


def test_a_run_records_once_that_it_trains_and_what_lanes_note(room):
    """Each run of its own."""
    for _ in range(2):
        lane = Lane(room.conductor())
        lane.send([])
        assert not any(event["kind"] == "training" for event in room.read(read.all_events)[-1:])
        for number in (2, 3):
            lane.conductor.exchange(Message(lane.id, number, [], 0, 1.5, ["memory ran out"]))
    events = [(event["kind"], event["text"]) for event in room.read(read.all_events)]
    assert events == 2 * [("lane", "the lane of slot a: memory ran out"), ("training", "the first epochs are trained"),
                          ("lane", "the lane of slot a: memory ran out")]  # fmt: skip
