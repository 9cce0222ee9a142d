"""The conductor's promises, with made-up lanes: no Ray, no training, scores by formula."""

import math
import sqlite3
import time
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from losstune.search import blame, searching
from losstune.search.conductor import Conductor
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, Superseded
from losstune.search.measure import member_epochs
from losstune.search.recorded import _budget
from losstune.search.standing import standing
from losstune.search.study import load_study
from losstune.trainables.messages import Message, Report, Saved

FLOOR = {"validation": {"accuracy": 0.1, "nll": 2.3}, "test": {"accuracy": 0.11, "nll": 2.3}}
NAMES = count()


def formula(trial, epoch: int, seed: int) -> float:
    """Best at a learning rate of 0.1, rising with the epochs, a little apart for every seed."""
    return (0.9 - 0.1 * abs(math.log10(trial.learning_rate) + 1)) * (1 - 0.5**epoch) + 0.001 * seed


class Lane:
    """Trains all its trials until one has news, or, where single, for one epoch per turn.

    score: (trial, epoch, seed) -> the metric; fails: (trial, epoch) -> reason. Checkpoints are names that say how far
    the trial was. late: how many epochs it trains before it hears an answer; where not 0, news wait meanwhile. trained:
    the epochs of all its trials.
    """

    def __init__(self, conductor, slot="a", width=3, score=formula, fails=lambda trial, epoch: None, metric="accuracy",
                 single=False, late=lambda: 0, node=None):  # fmt: skip
        self.single, self.late, self.answer, self.news, self.trained = single, late, None, [], 0
        self.conductor, self.slot, self.width, self.score, self.fails = conductor, slot, width, score, fails
        self.metric = metric
        self.id = f"{slot}-{next(NAMES)}"
        self.held, self.done, self.sent, self.seen, self.messages = {}, False, [], [], 0
        conductor.register(slot, self.id, 0.0, "cpu", node)

    @property
    def free(self) -> int:
        return self.width - sum(len(order.trial.seeds) for order, _, _ in self.held.values())

    def turn(self) -> bool:
        """Training, its reports, the orders. False at the end."""
        while self.held:
            self.news += [news for trial in list(self.held) if (news := self._train(trial))]
            if self.single or self.answer or self.news:
                break
        if self.answer:
            left, orders = self.answer
            self.answer = (left - 1, orders) if left > 1 and self.held else None
            if self.answer is None:
                self.follow(orders)
        if self.answer is None and not self.done:
            late, orders = self.late(), self.say(self.news)
            if late and self.held:
                self.answer = late, orders
            else:
                self.follow(orders)
        return not self.done

    def _train(self, trial: str):
        order, epoch, curve = self.held[trial]
        epoch, self.trained = epoch + 1, self.trained + 1
        curve = [
            *curve,
            {
                "epoch": epoch,
                "train_loss": [0.5] * len(order.trial.seeds),
                "scores": {self.metric: [self.score(order.trial, epoch, s) for s in order.trial.seeds]},
            },
        ]
        self.held[trial] = order, epoch, curve
        reason = self.fails(order.trial, epoch)
        if reason or epoch >= order.trial.epochs:
            report = self._report(trial, failure=reason, results=self._results(order.trial, epoch), left=True)
            del self.held[trial]
            return report
        return self._report(trial) if epoch in order.report_at else None

    def _results(self, trial, epoch: int):
        if not trial.phase.startswith("confirm") or epoch < trial.epochs:
            return None
        return {part: {self.metric: self.score(trial, epoch, trial.seeds[0])} for part in ("validation", "test")}

    def _report(self, trial: str, **news):
        order, epoch, curve = self.held[trial]
        self.held[trial] = order, epoch, []
        saved = Saved(f"checkpoints/{trial}/{epoch}.pt", "d", epoch)
        return Report(trial, order.attempt, epoch, curve, 0.1, checkpoint=saved, **news)

    def send(self, reports: list):
        """Send reports as they are, follow the orders; the orders."""
        return self.follow(self.say(reports))

    def say(self, reports: list):
        """Send reports, and hear what is answered."""
        self.messages += 1
        self.sent += reports
        self.news = []
        return self.conductor.exchange(Message(self.id, self.messages, reports, self.free, self.trained, []))

    def follow(self, orders):
        """Do what was answered."""
        self.seen.append(orders)
        for trial in orders.stop:
            if trial in self.held and self.held[trial][2]:
                self.news.append(self._report(trial, left=True))
            self.held.pop(trial, None)
        if orders.park:
            parked = [self._report(trial, parked=True, left=True) for trial in self.held]
            self.held = {}
            self.say(self.news + parked)
        for order in orders.start:
            epoch = order.checkpoints[0].epoch if order.checkpoints else 0
            self.held[order.trial.id] = order, epoch, []
            assert self.free >= 0 or len(self.held) == 1, "it was given more than it has room for"
        self.done = orders.done or orders.park or orders.leave
        if orders.done and self.news:
            self.say(self.news)
        return orders

    @property
    def orders(self) -> list:
        """Every order it was given."""
        return [order for orders in self.seen for order in orders.start]


def drive(*lanes: Lane, until=lambda: False) -> None:
    """Turn by turn, until all are done or until says so."""
    for _ in range(3000):
        if until():
            return
        alive = [lane for lane in lanes if not lane.done]
        if not alive:
            return
        for lane in alive:
            lane.turn()
    raise AssertionError("the lanes never end")


class Room:
    """One study's ledger and the conductors over it."""

    def __init__(self, folder: Path):
        self.folder, self.ledgers = folder, []

    def conductor(self, *changes: str, losses="softmax,sigmoid", greater_is_better=True, slots=1,
                  home=None) -> Conductor:  # fmt: skip
        """A run of the study: a new generation of its ledger. changes as --set takes them."""
        (self.folder / "s.yaml").write_text(
            "data: digits\nnetwork: mlp\nrecipe: {epochs: 9}\nsearch: {trials: 6, seeds: 3}\nconfirm: {seeds: 2}\n"
        )
        study = load_study(self.folder / "s.yaml", (f"losses=[{losses}]", *changes))
        self.ledgers.append(Ledger.create_or_open(self.folder / "ledger.db"))
        return Conductor(study, self.ledgers[-1], FLOOR, greater_is_better, "the test split", slots, home)

    def rows(self, phase: str | None = None, **of) -> list[dict]:
        """The ledger's trials with these values."""
        with self.ledgers[-1].reading() as tx:
            return [row for row in read.all_trials(tx, phase) if of.items() <= row.items()]

    def read(self, what, *arguments) -> list[dict]:
        with self.ledgers[-1].reading() as tx:
            return what(tx, *arguments)

    def close(self):
        for ledger in self.ledgers:
            ledger.close()


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


def essence(rows: list[dict]) -> list[tuple]:
    """What a trial is and what became of it, but for when and where."""
    kept = ("id", "parameters", "configuration", "state", "epoch", "score", "best_epoch", "results", "reason")
    return [tuple(row[name] for name in kept) for row in rows]


# --- asking ---


def test_the_default_of_every_loss_is_asked_first(room):
    """So that no loss is ever worse than untuned."""
    conductor = room.conductor()
    drive(Lane(conductor))
    for loss, space in conductor.study.spaces.items():
        assert room.rows("search", loss=loss, number=0)[0]["parameters"] == pytest.approx(space.default())


@pytest.mark.parametrize("width", [3, 12])
def test_losses_advance_in_step(room, width):
    """At any cut no loss has had more than one configuration more than another."""
    conductor = room.conductor(losses="softmax,sigmoid,label_smoothing")
    spread = []

    def look():
        asked = [len(room.rows("search", loss=loss)) for loss in conductor.study.spaces]
        spread.append(max(asked) - min(asked))

    drive(Lane(conductor, "a", width), Lane(conductor, "b", width), until=look)
    assert max(spread) <= 1
    assert [len(room.rows("search", loss=loss)) for loss in conductor.study.spaces] == [6, 6, 6]


def test_every_trial_ends_and_every_loss_is_confirmed(room):
    """Nothing is left over."""
    conductor = room.conductor()
    drive(Lane(conductor, "a", 6), Lane(conductor, "b", 6))
    assert {row["state"] for row in room.rows("search")} <= {"complete", "stopped"}
    assert [(row["loss"], row["number"]) for row in room.rows("confirm", state="complete")] == [
        (loss, seed) for seed in (0, 1) for loss in ("softmax", "sigmoid")
    ]


def test_a_loss_with_nothing_to_search_is_asked_once(room):
    """The same configuration again would only cost time."""
    drive(Lane(room.conductor("recipe.tune=[]")))
    assert [row["id"] for row in room.rows("search")] == ["search-softmax-0000", "search-sigmoid-0000"]


def test_a_loss_of_two_passes_per_step_counts_twice(room):
    """In what was spent, and in what the plan expects; it is asked as often as every other."""
    conductor = room.conductor("search.halving=null", losses="softmax,cot")
    drive(Lane(conductor))
    spent = standing(conductor.study, room.ledgers[-1], True).losses
    epochs = {loss: sum(row["epoch"] * len(row["seeds"]) for row in room.rows(loss=loss)) for loss in spent}
    assert spent["softmax"].asked == spent["cot"].asked == 6
    assert spent["softmax"].member_epochs == epochs["softmax"] > 0
    assert spent["cot"].member_epochs == 2 * epochs["cot"] > 0
    recorded = _budget(room.rows(), ["softmax", "cot"], {"softmax": 1, "cot": 2}).groupby("loss")["member_epochs"].sum()
    assert recorded.to_dict() == {loss: spent[loss].member_epochs for loss in spent}
    assert member_epochs(conductor.study) == ((1 + 2) * 6 * 3 * 9, (1 + 2) * 2 * 9)


def test_configurations_are_within_the_space_and_complete(room):
    """What is fixed is in them too."""
    conductor = room.conductor("recipe.weight_decay=1e-4", losses="{label_smoothing: {alpha: {low: 0.05, high: 0.2}}}")
    lane = Lane(conductor)
    drive(lane)
    for row in room.rows("search"):
        assert 0.05 <= row["configuration"]["alpha"] <= 0.2 and row["configuration"]["weight_decay"] == 1e-4
    assert all(order.trial.hyperparameters["scaled"] is True for order in lane.orders)


def test_search_seeds_and_confirm_seeds_are_the_same_for_every_loss_and_fresh(room):
    """Paired within a phase; confirm never sees the search's draws."""
    lane = Lane(room.conductor())
    drive(lane)
    search = {(o.trial.phase, o.trial.seeds) for o in lane.orders if o.trial.phase == "search"}
    assert search == {("search", (0, 1, 2))}
    confirm = {o.trial.phase for o in lane.orders} - {"search"}
    assert confirm == {"confirm"}


def test_the_test_split_is_handed_out_with_confirm_only(room):
    """The search cannot reach it."""
    lane = Lane(room.conductor())
    drive(lane)
    for orders in lane.seen:
        phases = {order.trial.phase for order in orders.start}
        assert (orders.test is not None) == (phases == {"confirm"})


# --- halving and choosing ---


@pytest.mark.parametrize("offset", [-0.5, 0.5])
def test_halving_compares_within_a_loss_only(room, tmp_path, offset):
    """Another loss, better or worse, changes nothing for this one."""
    drive(Lane(room.conductor("search.trials=12", losses="softmax")))
    alone = essence(room.rows("search"))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    drive(
        Lane(
            other.conductor("search.trials=12"),
            score=lambda trial, epoch, seed: formula(trial, epoch, seed) + offset * (trial.loss == "sigmoid"),
        )
    )
    assert essence(other.rows("search", loss="softmax")) == alone
    assert {"stopped", "complete"} == {row["state"] for row in room.rows("search")}
    other.close()


def by_number(table: dict[int, list[float]]):
    """Scores by a trial's number and epoch, the same for each seed; 0.5 where the table says nothing."""

    def score(trial, epoch, seed):
        number = int(trial.id.rpartition("-")[2]) if trial.phase == "search" else -1
        return table.get(number, [0.5] * 9)[epoch - 1]

    return score


def test_the_worst_are_stopped_at_a_rung(room):
    """With many before it, a bad trial does not go on."""
    table = {n: [0.9] * 9 for n in range(3)} | {3: [0.1] * 9}
    drive(Lane(room.conductor("search.trials=4", losses="softmax"), score=by_number(table)))
    row = room.rows("search", number=3)[0]
    assert (row["state"], row["epoch"]) == ("stopped", 3)


def test_without_halving_all_go_the_full_length(room):
    """`halving: null`."""
    drive(Lane(room.conductor("search.halving=null", losses="softmax")))
    assert {(row["state"], row["epoch"]) for row in room.rows("search")} == {("complete", 9)}


def test_only_full_length_trials_are_chosen(room):
    """Neither a stopped one with a lucky first epoch nor one that failed near its end."""
    table = {0: [0.5] * 9, 1: [0.6] * 9, 2: [0.99, 0.1, 0.1] + [0.1] * 6, 3: [0.95] * 9}

    def fails(trial, epoch):
        return "the training loss became nan" if (trial.id, epoch) == ("search-softmax-0003", 8) else None

    drive(Lane(room.conductor("search.trials=4", losses="softmax"), score=by_number(table), fails=fails))
    assert [row["state"] for row in room.rows("search")] == ["complete", "complete", "stopped", "failed"]
    (choice,) = room.read(read.all_choices)
    assert (choice["trial"], choice["score"]) == ("search-softmax-0001", pytest.approx(0.6))


def test_the_best_epoch_is_the_first_argmax_of_the_seed_mean(room):
    """Not of any one seed, and the earlier of two equal ones."""
    curves = {0: [0.1, 0.2, 0.9, 0.3, 0.6, 0.2, 0.6, 0.2, 0.1], 1: [0.1, 0.2, 0.1, 0.3, 0.6, 0.2, 0.6, 0.2, 0.1],
              2: [0.1, 0.2, 0.2, 0.3, 0.6, 0.2, 0.6, 0.2, 0.95]}  # fmt: skip
    lane = Lane(room.conductor("search.trials=1", losses="softmax"), score=lambda t, epoch, s: curves[s][epoch - 1])
    drive(lane)
    assert room.read(read.all_choices)[0]["best_epoch"] == 5
    assert {(o.trial.epochs, o.report_at) for o in lane.orders if o.trial.phase == "confirm"} == {(5, (5,))}


def test_equal_scores_choose_the_first_trial(room):
    """The default, where tuning gained nothing."""
    drive(Lane(room.conductor("search.halving=null", losses="softmax"), score=lambda t, e, s: 0.5))
    assert room.read(read.all_choices)[0]["trial"] == "search-softmax-0000"


def test_where_lower_is_better_the_lowest_wins(room):
    """Halving, best epoch and choice all turn round."""
    table = {0: [2, 1.5, 1, 0.8, 0.7, 0.6, 0.65, 0.7, 0.8], 1: [2.0] * 9, 3: [2.2] * 9,
             2: [2, 1.5, 0.9, 0.5, 0.4, 0.45, 0.5, 0.5, 0.5]}  # fmt: skip
    conductor = room.conductor("search.trials=4", "metric=nll", losses="softmax", greater_is_better=False)
    drive(Lane(conductor, score=by_number(table), metric="nll"))
    choice = room.read(read.all_choices)[0]
    assert (choice["trial"], choice["best_epoch"], choice["score"]) == ("search-softmax-0002", 5, pytest.approx(0.4))
    assert room.rows("search", number=3)[0]["state"] == "stopped"


def test_confirm_trains_what_was_chosen(room):
    """The chosen configuration, for the chosen epochs, each seed a member of its own."""
    lane = Lane(room.conductor())
    drive(lane)
    chosen = {row["loss"]: (room.rows(id=row["trial"])[0]["configuration"], row["best_epoch"])
              for row in room.read(read.all_choices)}  # fmt: skip
    for row in room.rows("confirm"):
        assert (row["configuration"], row["epochs"]) == chosen[row["loss"]] and row["seeds"] == [row["number"]]


# --- failures of trials ---


def nan(trial, epoch):
    return "the training loss became nan in epoch 2 with seed 0" if epoch == 2 and trial.loss == "sigmoid" else None


def some_nan(trial, epoch):
    return nan(trial, epoch) if trial.id.endswith(("0001", "0003")) and trial.phase == "search" else None


def test_a_failed_trial_counts_with_its_reason_and_the_floors_score(room):
    """Never missing: it was asked, and scores as the constant predictor."""
    drive(Lane(room.conductor(), fails=some_nan))
    failed = room.rows("search", state="failed")
    assert [row["id"] for row in failed] == ["search-sigmoid-0001", "search-sigmoid-0003"]
    assert all("became nan" in row["reason"] and row["score"] == 0.1 for row in failed)
    assert len(room.rows("search", loss="sigmoid")) == len(room.rows("search", loss="softmax")) == 6


def test_a_failed_trial_is_told_as_complete_with_the_floor(room):
    """TPE ignores what is told as failed, and would propose the same again."""
    conductor = room.conductor()
    drive(Lane(conductor, fails=some_nan))
    told = conductor.search.proposals["sigmoid"].study.trials[1]
    assert told.state.name == "COMPLETE" and told.value == 0.1
    again = room.conductor().search.proposals["sigmoid"].study.trials[1]
    assert (again.state, again.value) == (told.state, told.value)


def test_a_loss_of_which_every_trial_fails_is_confirmed_as_the_constant_predictor(room):
    """It has a row for every seed, and the others are not held up."""
    drive(Lane(room.conductor(), fails=nan))
    rows = room.rows("confirm", loss="sigmoid")
    assert [(row["number"], row["state"], row["results"]["test"]) for row in rows] == [
        (0, "failed", FLOOR["test"]), (1, "failed", FLOOR["test"])]  # fmt: skip
    assert all(row["reason"] for row in rows)
    assert len(room.rows("confirm", loss="softmax", state="complete")) == 2


def test_a_failed_confirm_member_scores_as_the_constant_predictor(room):
    """It stays in the pairs."""
    drive(Lane(room.conductor(), fails=lambda t, e: "nan" if t.phase == "confirm" and t.seeds == (1,) else None))
    rows = room.rows("confirm", number=1)
    assert [(row["state"], row["results"]["test"]["accuracy"]) for row in rows] == [("failed", 0.11)] * 2


def test_more_seeds_for_a_loss_that_has_failed_are_failed_too(room):
    """Every loss keeps the same seeds."""
    drive(Lane(room.conductor(), fails=nan))
    drive(Lane(room.conductor("confirm.seeds=4"), fails=nan))
    assert [row["number"] for row in room.rows("confirm", loss="sigmoid", state="failed")] == [0, 1, 2, 3]


# --- reports ---


def test_what_a_lane_hears_is_in_the_ledger(room):
    """A decision or an order is committed before anybody acts on it."""
    lane = Lane(room.conductor(), width=6)
    while lane.turn():
        held = {trial: (order.attempt, lane.id) for trial, (order, _, _) in lane.held.items()}
        assert {row["id"]: (row["attempt"], row["lane"]) for row in room.rows(state="running")} == held
        reported = {(report.trial, report.epoch) for report in lane.sent}
        assert {(row["trial"], row["epoch"]) for row in room.read(read.all_reports)} == reported


def test_a_report_twice_is_harmless(room, tmp_path):
    """A lane that does not know whether it was heard says it again."""
    drive(Lane(room.conductor(losses="softmax")))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    lane = Lane(other.conductor(losses="softmax"))
    send = lane.send
    lane.send = lambda reports: send(reports if not reports else reports + reports)
    drive(lane)
    assert essence(other.rows()) == essence(room.rows())
    assert len(other.read(read.all_reports)) == len(room.read(read.all_reports))
    other.close()


def test_a_late_repetition_of_an_ended_trials_report_changes_nothing(room):
    """Neither its cost; and where the lane may still have it, it is told, again, to stop."""
    lane = Lane(room.conductor())
    drive(lane, until=lambda: bool(room.rows("search", state="complete")))
    before = room.rows("search", state="complete")
    last = next(r for r in reversed(lane.sent) if r.trial == before[0]["id"])
    assert last.trial not in lane.send([last]).stop and last.left
    assert last.trial in lane.send([replace(last, left=False)]).stop
    assert room.rows(id=before[0]["id"]) == before


def test_reports_of_an_unknown_trial_are_refused(room):
    """Nothing is made up."""
    lane = Lane(room.conductor())
    assert lane.send([Report("search-softmax-9999", 1, 3, [], 0.1)]).stop == ["search-softmax-9999"]
    assert not room.rows(id="search-softmax-9999")


# --- lanes that die ---


def test_what_a_dead_lane_held_is_offered_again_as_a_new_attempt(room):
    """From its last checkpoint."""
    conductor = room.conductor()
    lane = Lane(conductor)
    drive(lane, until=lambda: any(report.epoch == 3 for report in lane.sent) and lane.held)
    ((trial, (_, epoch, _)),) = lane.held.items()
    orders = Lane(conductor).send([])
    assert [(order.trial.id, order.attempt) for order in orders.start] == [(trial, 2)]
    assert (not orders.start[0].checkpoints) == (epoch < 3)


def test_a_dead_lanes_last_words_are_refused(room):
    """Its slot has another lane; its trials are another attempt."""
    conductor = room.conductor()
    old = Lane(conductor)
    old.turn()
    new = Lane(conductor)
    new.turn()
    ((trial, (order, _, _)),) = old.held.items()
    late = Report(trial, order.attempt, 3, [{"epoch": 3, "train_loss": [1.0], "scores": {"accuracy": [1.0]}}], 0.1)
    assert old.send([late]).done
    new.send([late])
    assert room.read(read.all_reports) == [] and room.rows(id=trial)[0]["score"] is None


def test_a_late_older_attempt_does_not_stop_the_newer_one(room):
    """Trial and attempt together say who reports."""
    conductor = room.conductor()
    lane = Lane(conductor)
    lane.turn()
    ((trial, (order, _, _)),) = lane.held.items()
    late = Report(trial, order.attempt, 3, [], 0.1, failure="gone wrong")
    Lane(conductor).send([late])
    assert room.rows(id=trial)[0]["state"] == "running"


def test_suspects_run_alone(room):
    """Of several trials that were there when two lanes died, the guilty one must show."""
    conductor = room.conductor(losses="softmax")
    for _ in range(2):
        lane = Lane(conductor, width=9)
        lane.turn()
        assert len(lane.held) == 3
    third = Lane(conductor, width=9)
    while third.turn() and not conductor.search.chosen:
        assert len(third.held) == 1 or not any(conductor.book.trials[trial]["crashes"] > 1 for trial in third.held)
    assert all(row["state"] != "running" for row in room.rows("search"))


def test_the_one_that_takes_its_lane_down_three_times_is_failed_and_no_other(room):
    """With the reason; the others of its first lane end as they would have."""
    conductor, guilty = room.conductor(losses="softmax"), "search-softmax-0001"
    lanes = 0
    for _ in range(20):
        lane, lanes = Lane(conductor, width=9), lanes + 1
        while lane.turn() and guilty not in lane.held:
            pass
        if lane.done:
            break
        conductor.lane_error(lane.id, "OutOfMemoryError: 3 GiB")
    assert lanes == 4
    rows = {row["id"]: row for row in room.rows("search")}
    assert rows.pop(guilty)["state"] == "failed" and {row["state"] for row in rows.values()} <= {"complete", "stopped"}
    reason = room.rows(id=guilty)[0]["reason"]
    assert "3 times" in reason and "OutOfMemoryError: 3 GiB" in reason
    assert len(room.rows("confirm", state="complete")) == 2


def test_a_lost_machine_is_no_trials_fault(room):
    """However often: its trials go on, and nobody is under suspicion."""
    conductor = room.conductor(losses="softmax")
    for _ in range(5):
        lane = Lane(conductor, width=9)
        lane.turn()
        conductor.lane_died("a", "its node was lost", True, time.monotonic())
    drive(Lane(conductor, width=9))
    assert {row["crashes"] for row in room.rows()} == {0} and not room.rows(state="failed")
    assert sum("its node was lost" in event["text"] for event in room.read(read.all_events)) == 5


def test_lanes_of_a_machine_that_is_to_go_park_their_trials_and_start_elsewhere(room):
    """What they have trained is lost in no part, nobody is under suspicion, and the other lane does not notice."""
    conductor = room.conductor(slots=2)
    there, here = Lane(conductor, "a", width=9, node="there"), Lane(conductor, "b", node="here")
    drive(there, here, until=lambda: len(there.seen) > 1 and there.held)
    conductor.drain({"there"})
    drive(there)
    parked = {row["id"]: row["epoch"] for row in room.rows(state="running") if row["lane"] is None}
    assert there.seen[-1].park and parked and not here.seen[-1].leave
    elsewhere = Lane(conductor, "a", node="elsewhere")
    drive(here, elsewhere)
    went_on = {order.trial.id: order for order in here.orders + elsewhere.orders if order.attempt > 1}
    assert {trial: order.checkpoints[0].epoch for trial, order in went_on.items()} == parked
    assert {row["crashes"] for row in room.rows()} == {0} and not room.rows(state="failed")
    said = [event["text"] for event in room.read(read.all_events) if event["kind"] == "lane"]
    assert len(said) == 1 and "leaves its machine, which is about to go" in said[0]


def test_nothing_is_started_on_a_machine_that_is_to_go(room):
    conductor = room.conductor()
    conductor.drain({"there"})
    lane = Lane(conductor, node="there")
    drive(lane)
    assert lane.seen[-1].leave and not lane.orders
    drive(Lane(conductor, node="here"))
    assert len(room.rows("confirm", state="complete")) == 4


def test_a_study_that_is_stopped_starts_no_lane_elsewhere(room):
    conductor = room.conductor()
    lane = Lane(conductor, node="there")
    drive(lane, until=lambda: lane.held)
    conductor.stop()
    conductor.drain({"there"})
    drive(lane)
    assert lane.seen[-1].park and not lane.seen[-1].leave


@pytest.fixture
def thrice(room, monkeypatch):
    """A trial that has taken three lanes down, the last one on another machine; the conductor, its name, its clock."""
    clock = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(blame, "time", SimpleNamespace(monotonic=lambda: clock.now))
    conductor = room.conductor("search.trials=2", losses="softmax", home="here")
    for node in ("here", "here", "there"):
        lane = Lane(conductor, node=node)
        lane.turn()
        conductor.lane_died("a", "its process was killed or crashed", False, time.monotonic())
    (trial,) = conductor.blame.doubtful
    return conductor, trial, clock


def test_a_trial_is_not_failed_as_long_as_it_may_have_been_the_machine(room, thrice):
    """Ray knows only later that a machine is lost: then the trial goes on, and is blamed for two."""
    conductor, trial, _ = thrice
    drive(other := Lane(conductor, "b", node="here"), until=lambda: not other.held and len(other.seen) > 20)
    assert room.rows(id=trial)[0]["state"] == "running" and not conductor.search.chosen
    conductor.settle()
    conductor.node_lost("there")
    assert room.rows(id=trial)[0]["crashes"] == 2
    assert any("machine is lost" in event["text"] for event in room.read(read.all_events))
    drive(other)
    assert room.rows(id=trial)[0]["state"] in ("complete", "stopped") and len(room.rows("confirm")) == 2


def test_a_trial_is_failed_when_the_machine_is_still_there(room, thrice):
    """After as long as it takes Ray to notice; the study goes on without it."""
    conductor, trial, clock = thrice
    clock.now += 31
    conductor.settle()
    row = room.rows(id=trial)[0]
    assert row["state"] == "failed" and row["reason"].startswith("its lane died 3 times while training it: its process")
    drive(Lane(conductor, "b"))
    assert len(room.rows("confirm", state="complete")) == 2


def test_a_doubtful_trial_of_a_killed_run_is_tried_once_more(room, thrice):
    """Who decides on it is gone."""
    _, trial, _ = thrice
    drive(Lane(room.conductor("search.trials=2", losses="softmax"), "b"))
    assert room.rows(id=trial)[0]["state"] in ("complete", "stopped")


def test_lanes_that_cannot_start_end_the_study_and_say_why(room):
    """They never say that they are there: only Ray knows of them. What a lost machine did does not count."""
    conductor, why = room.conductor(slots=2), "ImportError: libcudart.so.12: cannot open shared object file"
    conductor.lane_died("a", "its node was lost", True, time.monotonic())
    for _ in range(2):
        conductor.lane_died("a", why, False, time.monotonic())
        conductor.lane_died("b", why, False, time.monotonic())
    assert conductor.broken is None
    lane = Lane(conductor, "b")
    lane.turn()
    for _ in range(5):
        conductor.lane_died("a", why, False, time.monotonic())
    assert conductor.broken is None  # the other one trains
    conductor.lane_died("b", why, False, time.monotonic())
    for _ in range(3):
        assert conductor.broken is None
        conductor.lane_died("b", why, False, time.monotonic())
    assert conductor.broken == f"lanes die before they train anything: {why}"
    said = [event["text"] for event in room.read(read.all_events)]
    assert said.count(f"a lane of slot a could not start ({why})") == 3


def test_a_lane_without_work_ends_when_all_that_is_left_is_trained_by_others(room):
    """A cluster can let its machine go. What a death leaves is still taken by a lane that comes."""
    conductor = room.conductor(slots=2)
    first, second = Lane(conductor, single=True), Lane(conductor, "b", single=True)
    drive(first, second, until=lambda: conductor.search.chosen and not conductor.confirm.left and first.held)
    assert first.held and second.held
    drive(second, until=lambda: not second.held)
    second.turn()
    assert second.done and first.held and len(conductor.lanes) == 1
    conductor.lane_died("a", "its process was killed or crashed", False, time.monotonic())
    drive(Lane(conductor))
    assert len(room.rows("confirm", state="complete")) == 4


def test_where_the_last_lane_that_has_work_cannot_start_again_the_study_ends(room):
    """Though another one has ended in peace."""
    conductor = room.conductor(slots=2)
    first, second = Lane(conductor, single=True), Lane(conductor, "b", single=True)
    drive(first, second, until=lambda: conductor.search.chosen and not conductor.confirm.left and first.held)
    drive(second, until=lambda: second.done)
    for _ in range(4):
        assert conductor.broken is None
        conductor.lane_died("a", "its process was killed or crashed", False, time.monotonic())
    assert conductor.broken == "lanes die before they train anything: its process was killed or crashed"


def test_a_lane_without_work_stays_as_long_as_there_may_be_some(room):
    """At the end of a search others' results bring the confirm."""
    conductor = room.conductor("search.trials=2", losses="softmax", slots=2)
    first, second = Lane(conductor, width=3, single=True), Lane(conductor, "b", width=9)
    first.turn()
    drive(second, until=lambda: not second.held)
    for _ in range(3):
        second.turn()
    assert first.held and not second.done
    drive(first, second)
    assert {order.trial.phase for lane in (first, second) for order in lane.orders} == {"search", "confirm"}
    assert {order.trial.phase for order in second.orders} >= {"confirm"}


def test_processes_that_end_after_the_study_is_done_harm_nothing(room):
    """Ray may end them as it likes."""
    conductor = room.conductor()
    drive(Lane(conductor))
    for _ in range(5):
        conductor.lane_died("b", "its process was killed or crashed", False, time.monotonic())
    assert conductor.broken is None and room.read(read.all_events)[-1]["kind"] != "lane"


def raised(lane, trial: str) -> None:
    """A trial of a lane on which the study's metric has raised."""
    order, epoch, _ = lane.held.pop(trial)
    lane.send([Report(trial, order.attempt, epoch + 1, [], 0.1, failure="metric: m.py:score raised ValueError: boom",
                      left=True, metric_raised=True)])  # fmt: skip


def test_a_metric_that_raises_at_once_ends_the_study(room):
    """It has never worked, and a loss's default is no odd configuration."""
    lane = Lane(conductor := room.conductor())
    lane.send([])
    raised(lane, "search-softmax-0000")
    assert conductor.broken == "metric: m.py:score raised ValueError: boom"
    assert room.rows(id="search-softmax-0000")[0]["state"] == "running"


def test_a_metric_that_raises_on_one_trial_fails_that_one(room):
    """Whose logits it cannot take: the study goes on without it."""
    lane = Lane(conductor := room.conductor(), single=True)
    drive(lane, until=lambda: room.rows(state="complete") and lane.held)
    trial = next(iter(lane.held))
    raised(lane, trial)
    drive(lane)
    assert conductor.broken is None and len(room.rows("confirm", state="complete")) == 4
    assert room.rows(id=trial)[0]["reason"] == "metric: m.py:score raised ValueError: boom"


@pytest.mark.parametrize("lost", ["the row", "the reports"])
def test_a_ledger_of_which_a_disk_has_lost_a_part_comes_to_the_same(room, tmp_path, lost):
    """An older state of one table beside a newer one of the other: what has been decided stands, the rest is redone."""
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    drive(Lane(other.conductor()))
    lane = Lane(room.conductor(), single=True)
    drive(lane, until=lambda: any(row["epoch"] == 3 for row in room.rows(state="running")))
    row = next(row for row in room.rows(state="running") if row["epoch"] == 3)
    if lost == "the row":
        change(room, "UPDATE trials SET epoch = 0, score = 0.01, best_epoch = 1, checkpoints = '[]' WHERE id = ?",
               row["id"])  # fmt: skip
    else:
        change(room, "DELETE FROM reports WHERE trial = ?", row["id"])
    drive(Lane(room.conductor()))
    assert essence(room.rows()) == essence(other.rows())
    curves = [[(epoch["epoch"], epoch["scores"]) for report in one.read(read.reports_of, row["id"])
               for epoch in report["curve"]] for one in (room, other)]  # fmt: skip
    assert curves[0] == curves[1]
    other.close()


def change(room, statement: str, *values) -> None:
    with sqlite3.connect(room.folder / "ledger.db") as connection:
        connection.execute(statement, values)
    connection.close()


def test_a_lane_that_dies_empty_handed_harms_no_trial(room):
    """It is simply another lane."""
    conductor = room.conductor()
    for _ in range(2):
        Lane(conductor)
    drive(Lane(conductor))
    assert {row["crashes"] for row in room.rows()} == {0}


def test_a_dead_lane_does_not_change_what_is_asked_or_scored(room, tmp_path):
    """One slot: a death costs time and nothing else."""
    drive(Lane(room.conductor()))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    conductor = other.conductor()
    for turns in (2, 7, 14, 23, 40):
        lane = Lane(conductor, single=True)
        for _ in range(turns):
            lane.turn()
    drive(Lane(conductor))
    assert essence(other.rows()) == essence(room.rows())
    other.close()


def test_what_is_offered_again_still_fits_the_lane(room):
    """Members beyond a lane's places may be beyond its memory."""
    first = room.conductor("search.trials=3")
    for slot in ("a", "b", "c"):
        Lane(first, slot, width=3).turn()
    lane = Lane(room.conductor("search.trials=3"), width=7)
    lane.turn()
    assert len(lane.held) >= 1 and lane.free >= 0


def test_a_lane_that_only_trains_costs_the_ledger_nothing(room):
    """Hundreds of lanes say every second that they live; the ledger is told of them every five."""
    conductor = room.conductor("recipe.epochs=81", "search.halving=null")
    lane, transactions = Lane(conductor, width=3, single=True), 0
    lane.turn(), lane.turn()
    begin = conductor.book.transaction

    def counted():
        nonlocal transactions
        transactions += 1
        return begin()

    conductor.book.transaction = counted
    for _ in range(50):
        lane.turn()
    assert lane.held and transactions <= 1


# --- parking and resuming ---


def test_a_stopped_study_parks_and_goes_on_from_there(room, tmp_path):
    """Nothing is trained twice, and the end is the same."""
    drive(Lane(room.conductor()))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    conductor = other.conductor()
    lane = Lane(conductor, single=True)
    for _ in range(11):
        lane.turn()
    ((trial, (_, epoch, _)),) = lane.held.items()
    conductor.stop()
    drive(lane)
    (parked,) = other.rows(state="running")
    assert parked["id"] == trial and parked["lane"] is None and parked["checkpoints"][0]["epoch"] == epoch + 1
    again = Lane(other.conductor())
    orders = again.send([])
    (order,) = orders.start
    assert order.trial.id == trial and [asdict(saved) for saved in order.checkpoints] == parked["checkpoints"]
    drive(again)
    assert essence(other.rows()) == essence(room.rows())
    other.close()


def test_a_stopped_study_starts_nothing(room):
    """However much room there is."""
    conductor = room.conductor()
    conductor.stop()
    lane = Lane(conductor, width=30)
    assert not lane.turn() and not lane.held and not room.rows()


@pytest.mark.parametrize("width", [3, 9])
def test_rebuilt_at_any_point_it_asks_the_same(room, tmp_path, width):
    """One slot: an uninterrupted conductor, and one that is rebuilt from the ledger after every single turn."""
    losses = "label_smoothing,ce_el"
    drive(Lane(room.conductor("search.trials=13", losses=losses), width=width))
    (tmp_path / "other").mkdir()
    other = Room(tmp_path / "other")
    held = {}
    for _ in range(500):
        lane = Lane(other.conductor("search.trials=13", losses=losses), width=width)
        lane.send([])
        # What ran goes on where it was, as from a checkpoint of that very epoch.
        lane.held = {trial: (order, *held.get(trial, (0, []))) for trial, (order, _, _) in lane.held.items()}
        if lane.done or not lane.turn():
            break
        held = {trial: state[1:] for trial, state in lane.held.items()}
    assert essence(other.rows("search")) == essence(room.rows("search"))
    assert other.read(read.all_choices) == room.read(read.all_choices)
    assert essence(sorted(other.rows("confirm"), key=str)) == essence(sorted(room.rows("confirm"), key=str))
    other.close()


def test_a_run_that_was_taken_over_is_refused(room):
    """Its conductor may live on for a moment, but writes nothing any more."""
    lane = Lane(room.conductor())
    lane.turn()
    room.conductor()
    before = room.rows()
    with pytest.raises(Superseded):
        lane.turn()
    assert room.rows() == before


def test_a_finished_study_gives_a_lane_nothing_to_do(room):
    """The same command again."""
    drive(Lane(room.conductor()))
    before = room.rows()
    lane = Lane(room.conductor())
    assert not lane.turn() and room.rows() == before


# --- more of everything ---


def test_more_seeds_add_only_those(room):
    """What was confirmed stays as it is."""
    drive(Lane(room.conductor()))
    before = room.rows()
    lane = Lane(room.conductor("confirm.seeds=4"))
    drive(lane)
    assert room.rows()[: len(before)] == before
    assert sorted(order.trial.id for order in lane.orders) == [
        f"confirm0-{loss}-{seed:04d}" for loss in ("sigmoid", "softmax") for seed in (2, 3)
    ]


def test_more_trials_after_a_confirm_start_another_with_fresh_seeds(room):
    """The old one is kept; the new one draws from a phase of its own."""
    drive(Lane(room.conductor()))
    before = room.rows()
    lane = Lane(room.conductor("search.trials=8"))
    drive(lane)
    assert [row for row in room.rows() if row["id"] in {old["id"] for old in before}] == before
    assert len([order for order in lane.orders if order.trial.phase == "search"]) == 4
    confirm = [order.trial for order in lane.orders if order.trial.phase != "search"]
    assert len(confirm) == 4 and not {trial.phase for trial in confirm} & {"search", "confirm"}
    assert len({trial.phase for trial in confirm}) == 1
    assert len(room.rows("confirm", round=0)) == len(room.rows("confirm", round=1)) == 4


def test_more_trials_before_any_confirm_are_just_more_trials(room):
    """No evidence has been seen, so that no new round is needed."""
    drive(Lane(lane := room.conductor()), until=lambda: len(room.rows("search")) > 5)
    assert not lane.search.chosen
    drive(Lane(room.conductor("search.trials=8")))
    assert {row["round"] for row in room.rows("confirm")} == {0} and len(room.rows("search")) == 16


@pytest.mark.parametrize("asked", [7, 8])
def test_fewer_trials_midway_leave_the_budgets_equal(room, asked):
    """What has been asked of one loss is asked of the others; a loss that is added then gets as many."""
    drive(Lane(room.conductor("search.trials=8")), until=lambda: len(room.rows("search")) == asked)
    drive(Lane(conductor := room.conductor("search.trials=2")))
    assert [len(room.rows("search", loss=loss)) for loss in ("softmax", "sigmoid")] == [4, 4]
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"
    drive(Lane(room.conductor("search.trials=2", losses="softmax,sigmoid,logit_norm")))
    assert len(room.rows("search", loss="logit_norm")) == 4 and len(room.rows("search")) == 12


def test_fewer_trials_midway_leave_grids_equal_as_far_as_they_go(room):
    """A coarser grid has points that are left to ask."""
    grid = "search.method=grid", "search.halving=null"
    drive(Lane(room.conductor(*grid, "search.trials=16")), until=lambda: len(room.rows("search")) == 11)
    drive(Lane(conductor := room.conductor(*grid, "search.trials=4")))
    assert [len(room.rows("search", loss=loss)) for loss in ("softmax", "sigmoid")] == [6, 6]
    assert standing(conductor.study, room.ledgers[-1], True).phase == "done"


def test_a_loss_added_gets_only_its_own_search_and_confirm(room):
    """On the same seeds as the others."""
    drive(Lane(room.conductor()))
    before = room.rows()
    lane = Lane(room.conductor(losses="softmax,sigmoid,logit_norm"))
    drive(lane)
    assert {order.trial.loss for order in lane.orders} == {"logit_norm"} and len(room.rows(loss="logit_norm")) == 8
    assert {order.trial.phase for order in lane.orders} == {"search", "confirm"}
    assert [row for row in room.rows() if row["loss"] != "logit_norm"] == before


def test_a_loss_taken_out_and_put_back_keeps_its_confirm(room):
    """Nothing of it has changed, so nothing of it is done again."""
    drive(Lane(room.conductor(losses="softmax,sigmoid")))
    drive(Lane(room.conductor(losses="softmax,logit_norm")))
    before = room.rows()
    lane = Lane(room.conductor(losses="softmax,sigmoid,logit_norm"))
    drive(lane)
    assert lane.orders == [] and room.rows() == before


def test_a_loss_taken_out_while_it_was_confirmed_holds_up_nothing(room):
    """Its unfinished members are nobody's business any more."""
    conductor = room.conductor()
    drive(Lane(conductor), until=lambda: bool(room.rows("confirm", loss="sigmoid", state="running")))
    drive(Lane(room.conductor(losses="softmax,logit_norm")))
    assert len(room.rows("confirm", loss="logit_norm", state="complete")) == 2


def test_more_trials_in_the_middle_of_a_confirm_search_first(room):
    """What the confirm had begun must not bring the test split into lanes that search."""
    drive(Lane(room.conductor()), until=lambda: bool(room.rows("confirm", state="complete", number=0)))
    assert room.rows("confirm", state="running")
    conductor = room.conductor("search.trials=8")
    lane = Lane(conductor, width=9)
    while lane.turn() and not conductor.search.chosen:
        assert all(order.trial.phase == "search" for order in lane.orders)
        assert all(orders.test is None for orders in lane.seen)
    drive(lane)
    assert len(room.rows("confirm", round=1, state="complete")) == 4


# --- hours ---


def test_when_the_hours_are_up_every_loss_is_cut_to_the_same_number(room, clock):
    """What one loss was asked beyond that is let go; what all were asked is still finished."""
    conductor = room.conductor("stop.hours=1", "search.trials=20")
    lanes = [Lane(conductor, slot, single=True) for slot in "abc"]
    drive(*lanes, until=lambda: len(room.rows("search")) == 9)
    clock.now = 3601
    drive(*lanes)
    assert [row["id"] for row in room.rows("search", state="cut")] == ["search-softmax-0004"]
    assert len(room.rows("search")) == 9 and not room.rows(state="running")
    assert ["4 configurations of every loss" in event["text"] for event in room.read(read.all_events)
            if event["kind"] == "cut"] == [True]  # fmt: skip
    assert len(room.rows("confirm", state="complete")) == 4


def test_a_better_trial_beyond_the_cut_is_not_chosen(room, clock):
    """It had no counterpart among the other loss's."""
    conductor = room.conductor("stop.hours=1", "search.trials=20", "search.halving=null")
    lane = Lane(conductor, score=by_number({0: [0.4] * 9, 1: [0.5] * 9, 2: [0.9] * 9}))
    drive(lane, until=lambda: "search-softmax-0002" in lane.held)
    clock.now = 3601
    drive(lane)
    assert room.rows("search", id="search-softmax-0002", state="complete")
    assert {row["trial"] for row in room.read(read.all_choices)} == {"search-softmax-0001", "search-sigmoid-0001"}


def test_a_cut_leaves_every_loss_at_least_its_default(room, clock):
    """Even where the hours were up before each had been asked: a loss that never had a turn has not failed."""
    conductor = room.conductor("stop.hours=1", losses="softmax,sigmoid,logit_norm")
    lane = Lane(conductor)
    lane.turn()
    assert len(room.rows("search")) == 1
    clock.now = 3601
    drive(lane)
    assert [row["number"] for row in room.rows("search")] == [0, 0, 0]
    assert {row["state"] for row in room.rows("confirm")} == {"complete"} and len(room.rows("confirm")) == 6


def test_a_loss_with_nothing_to_search_does_not_cut_the_others_to_one(room, clock):
    """It has had all it can have."""
    conductor = room.conductor("stop.hours=1", "recipe.tune=[]", "search.trials=20", "search.halving=null",
                               losses="softmax,label_smoothing")  # fmt: skip
    lane = Lane(conductor, score=by_number({n: [0.1 * (n + 1)] * 9 for n in range(4)}))
    drive(lane, until=lambda: len(room.rows("search", state="complete", loss="label_smoothing")) >= 3)
    clock.now = 3601
    drive(lane)
    choice = {row["loss"]: row["trial"] for row in room.read(read.all_choices)}
    assert choice["label_smoothing"] >= "search-label_smoothing-0002"


def test_hours_count_over_interruptions(room, clock):
    """Two runs of 40 minutes are more than an hour."""
    for _ in range(2):
        conductor = room.conductor("stop.hours=1", "search.trials=20")
        lane = Lane(conductor)
        for _turn in range(12):
            lane.turn()
        clock.now += 40 * 60
        lane.turn()
    drive(lane)
    assert any(event["kind"] == "cut" for event in room.read(read.all_events))
    assert len(room.rows("search")) < 40 and len(room.rows("confirm", state="complete")) == 4


def test_more_hours_go_on_with_the_search(room, clock):
    """And every loss ends with as many trained configurations as any other."""
    conductor = room.conductor("stop.hours=1", "search.trials=6")
    lanes = [Lane(conductor, slot, single=True) for slot in "abc"]
    drive(*lanes, until=lambda: len(room.rows("search")) == 5)
    clock.now = 3601
    drive(*lanes)
    assert len(room.rows("search", state="cut")) == 1
    drive(Lane(room.conductor("stop.hours=9", "search.trials=6")))
    trained = [len([row for row in room.rows("search", loss=loss) if row["state"] in ("complete", "stopped")])
               for loss in ("softmax", "sigmoid")]  # fmt: skip
    assert trained == [6, 6]


def test_the_cut_stands_when_the_same_command_goes_on(room, clock):
    """The hours are not lent again."""
    conductor = room.conductor("stop.hours=1")
    lane = Lane(conductor)
    drive(lane, until=lambda: len(room.rows("search")) == 5)
    clock.now = 3601
    lane.turn()
    drive(Lane(room.conductor("stop.hours=1")))
    assert len(room.rows("search")) == 5 and len(room.rows("confirm", state="complete")) == 4


@pytest.mark.parametrize("turns", range(1, 13))
def test_a_lane_holds_no_cut_trial_when_it_is_given_confirm_members(room, clock, turns):
    """It is told of the cut at its next exchange, whatever it reports then, and its places are counted right."""
    conductor = room.conductor("stop.hours=1", "search.trials=16", "search.seeds=1", "recipe.epochs=27")

    def fails(trial, epoch):
        """One that fails early leaves the next out of step, so that it is cut between its own reports."""
        return "wild" if (trial.id, epoch) == ("search-sigmoid-0001", 2) else None

    lane = Lane(conductor, width=4, score=lambda *_: 0.5, fails=fails)
    for _ in range(turns):
        lane.turn()
    clock.now = 3601
    while lane.turn():
        phases = {order.trial.phase for order, _, _ in lane.held.values()}
        assert len(phases) <= 1 and lane.free >= 0
    assert all(row["state"] != "running" for row in room.rows())


def test_more_hours_reopen_a_study_that_was_cut_and_finished(room, clock):
    """It is not done while trials that its hours now allow are missing; with the hours it had, it is."""
    cut = room.conductor("stop.hours=1")
    lane = Lane(cut)
    drive(lane, until=lambda: len(room.rows("search")) == 5)
    clock.now = 3601
    drive(lane)
    assert standing(cut.study, room.ledgers[-1], True).phase == "done"
    longer = load_study(room.folder / "s.yaml", ("losses=[softmax,sigmoid]", "stop.hours=9"))
    assert standing(longer, room.ledgers[-1], True).phase == "search"
    drive(Lane(room.conductor("stop.hours=9")))
    now = standing(longer, room.ledgers[-1], True)
    assert now.phase == "done" and {loss.asked for loss in now.losses.values()} == {6}
