"""An epoch that ends in the midst, because its machine is about to go, and goes on elsewhere, bit for bit."""

import numpy as np
import pytest
from test_lane import Script, make_lane, run, trial  # noqa: F401 (a fixture among them)

from losstune.trainables import checkpoint, conversation
from losstune.trainables.backends import Choice
from losstune.trainables.messages import Order, Orders
from losstune.trainables.recipe import Recipe

RECIPES = {
    "plain": {}, "average": {"average": 0.9}, "mixup": {"mixup": 0.3},
    "clipped adam": {"optimizer": "adamw", "clip_norm": 0.5},
    "augmented": {"network": "small_cnn", "augmentation": "crop", "examples": 320},
}  # fmt: skip
LOSSES = ["softmax", "dropout", "cot+center"]  # no draws of its own; some at every step; two passes, and a state


def after(steps: int):
    """Is-to-end that says so once, after so many steps."""
    left = iter(range(steps, 0, -1))
    return lambda: next(left, 0) == 1


def states(stack, trials):
    return {one.id: stack.state(one.id) for one in trials}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("steps", [(1,), (3,), (2, 1), (4,)])
def test_an_interrupted_epoch_goes_on_to_the_same_bits(make_stack, make_trial, same_bits, tmp_path, recipe, steps):
    """Once or twice in one epoch, after the first step and before the last; by way of files, to other stacks."""
    recipe = {"examples": 320, **recipe}
    trials = [make_trial(loss) for loss in LOSSES]
    straight = make_stack(**recipe)
    for one in trials:
        straight.join(one)
    straight.train_epoch()
    expected = straight.train_epoch()
    stack, done = make_stack(**recipe), 0
    for one in trials:
        stack.join(one)
    stack.train_epoch()
    for more in steps:
        stack.is_to_end = after(more)
        assert stack.train_epoch() is None
        done += more
        assert {stack.step_of(one.id) for one in trials} == {done} and stack.epoch_of(trials[0].id) == 1
        digests = {one.id: checkpoint.write(tmp_path / one.id, stack.state(one.id)) for one in trials}
        stack = make_stack(**recipe)
        for one in reversed(trials):
            stack.join(one, checkpoint.read(tmp_path / one.id, digests[one.id]))
    found = stack.train_epoch()
    for one in trials:
        assert found[one.id].train_loss == expected[one.id].train_loss
        assert found[one.id].scores == expected[one.id].scores and found[one.id].epoch == 2
    assert same_bits(states(stack, trials), states(straight, trials))
    stack.train_epoch()
    straight.train_epoch()
    assert same_bits(states(stack, trials), states(straight, trials))


@pytest.mark.parametrize("kind", ["batched", "sequential"])
def test_those_that_were_interrupted_train_beside_those_that_were_not(make_stack, make_trial, same_bits, kind):
    """At two places of an epoch, and a third trial at its beginning; then all is interrupted again."""
    backend = Choice(kind, 8 if kind == "batched" else 1)
    trials = [make_trial(name=name, learning_rate=rate) for name, rate in (("a", 0.1), ("b", 0.05), ("c", 0.02))]

    def straight(one):
        stack = make_stack(examples=320, backend=backend)
        stack.join(one)
        stack.train_epoch()
        return stack.leave(one.id)

    expected = {one.id: straight(one) for one in trials}
    stack = make_stack(examples=320, backend=backend)
    for one, steps in zip(trials, (1, 3, None), strict=True):
        if steps is None:
            stack.join(one)
            continue
        other = make_stack(examples=320, backend=backend)
        other.join(one)
        other.is_to_end = after(steps)
        assert other.train_epoch() is None
        stack.join(one, other.leave(one.id))
    stack.is_to_end = after(1)
    assert stack.train_epoch() is None
    assert [stack.step_of(one.id) for one in trials] == [1, 3, 1]  # the second was further than the others came
    assert set(stack.train_epoch()) == {"a", "b", "c"}
    assert same_bits({one.id: stack.leave(one.id) for one in trials}, expected)


def test_a_state_between_epochs_is_what_it_was(make_stack, make_trial):
    """Nothing is added to it, so that an older losstune reads it too."""
    stack = make_stack(examples=320)
    stack.join(make_trial())
    stack.is_to_end = after(2)
    stack.train_epoch()
    stack.train_epoch()
    assert set(stack.state("softmax")["members"][0]) == {"parameters", "optimizer", "buffers"}


def test_the_last_step_is_not_interrupted(make_stack, make_trial):
    """The epoch is as good as done."""
    stack = make_stack(examples=320)
    stack.join(make_trial())
    stack.is_to_end = after(stack.steps)
    assert stack.train_epoch() is not None and stack.step_of("softmax") == 0


# --- a lane ---


class Notice(Script):
    """A conductor that has the lane park at a sign of life after an epoch. early: what it orders an epoch before."""

    def __init__(self, *orders, epoch, early=()):
        super().__init__(*orders)
        self.epoch, self.early = epoch, list(early)

    def orders_after(self, message):
        in_the_midst = not message.reports and not message.free  # at the end of one there are free places here
        if any(report.parked for report in message.reports):
            return Orders(leave=True)
        if in_the_midst and message.clock >= self.epoch:
            return Orders(park=bool(self.open), leave=True)
        if in_the_midst and message.clock == self.epoch - 1 and self.early:
            return self.early.pop()
        return super().orders_after(message)


@pytest.fixture
def often(monkeypatch):
    """A sign of life at every other step, and a look for its answer at those between."""
    for name in ("LIFE_SECONDS", "LISTEN_SECONDS"):
        monkeypatch.setattr(conversation, name, 0.0)


@pytest.mark.parametrize("alone", [False, True])
def test_a_lane_that_is_told_to_leave_parks_in_the_midst_of_an_epoch(make_lane, often, tmp_path, alone):  # noqa: F811
    """Another goes on there, and tells of the same epochs."""
    orders = Order(trial("a", epochs=4), 1, (4,)), Order(trial("b", "sigmoid", epochs=4), 1, (4,))
    straight = Script(*orders)
    run(make_lane(straight))
    noticed = Notice(*orders, epoch=2)
    lane = make_lane(noticed)
    lane.alone = alone
    run(lane)
    assert lane.leaving and not lane.held
    parked = {report.trial: report for report in noticed.reports if report.parked}
    assert set(parked) == {"a", "b"} and {report.epoch for report in parked.values()} == {2}
    assert all(".step00000" in report.checkpoint.path for report in parked.values())
    resumed = Script(*(Order(order.trial, 2, (4,), (parked[order.trial.id].checkpoint,)) for order in orders))
    run(make_lane(resumed))
    for name in ("a", "b"):
        curves = [[(epoch["epoch"], epoch["scores"], epoch["train_loss"]) for report in script.reports
                   if report.trial == name for epoch in report.curve]
                  for script in (straight, noticed, resumed)]  # fmt: skip
        assert curves[0] == curves[1] + curves[2]


def test_what_is_answered_early_is_followed_at_the_end_of_the_epoch(make_lane, often):  # noqa: F811
    """Trials join and leave only there."""
    late = Order(trial("late", epochs=2), 1, (2,))
    script = Notice(Order(trial("a", epochs=6), 1, (6,)), epoch=3, early=[Orders(start=[late], stop=["a"])])
    script.open.add("late")
    run(make_lane(script))
    (cost,) = [report for report in script.reports if report.trial == "a"]
    assert cost.left and cost.epoch == 3  # the epoch in the midst of which the answer came
    assert [report.parked for report in script.reports if report.trial == "late"] == [True]


@pytest.mark.parametrize("batch_size", [64, 240, 300, 1000])
@pytest.mark.parametrize("alone", [False, True])
def test_every_answer_is_heard(make_lane, often, batch_size, alone):  # noqa: F811
    """Also of a sign of life that has none yet when the epoch ends: the script would see what is sent over it."""
    straight, script = (Script(Order(trial("a", epochs=4), 1, (2, 4)), late=late) for late in ((), (0, 3, 1, 2, 0, 4)))
    run(make_lane(straight, recipe=Recipe(epochs=9, batch_size=batch_size)))
    lane = make_lane(script, recipe=Recipe(epochs=9, batch_size=batch_size))
    lane.alone = alone
    run(lane)
    told = [[(report.epoch, report.curve) for report in one.reports] for one in (straight, script)]
    assert told[0] == told[1]
    assert [message.number for message in script.messages] == list(range(1, len(script.messages) + 1))


def test_names_of_checkpoints_are_in_the_order_of_writing():
    """Which of them are older is told by their names."""
    names = ["001-00002.pt", "001-00002.step0000003.pt", "001-00002.step0000012.pt", "001-00003.pt",
             "002-00002.step0000013.pt", "002-00003.pt"]  # fmt: skip
    assert names == sorted(names)


def test_rehearsals_are_not_interrupted(make_stack, make_trial, same_bits):
    """They count for nothing: a trial is where it was."""
    stack = make_stack(examples=320)
    stack.join(make_trial())
    before = np.copy(stack.state("softmax")["epoch"])
    stack.rehearse(2)
    assert stack.step_of("softmax") == 0 and stack.epoch_of("softmax") == before
