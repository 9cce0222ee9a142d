"""Machines that are about to go while studies run: answers come late, are lost and sent again, drains are withdrawn."""

import random

import pytest
from test_conductor import Lane, Room

from losstune.trainables.messages import Message

SEEDS = range(6)


class Leaver(Lane):
    """Ends as trainables/lane.py does: what it parks, and what a stopped trial has cost, is its last message.

    draw: whether an answer is lost, with the given probability; then the message is sent again.
    """

    lost, draw, leaving = 0.0, random.Random(0), False

    def follow(self, orders):
        self.seen.append(orders)
        for trial in orders.stop:
            if trial in self.held and self.held[trial][2]:
                self.news.append(self._report(trial, left=True))
            self.held.pop(trial, None)
        if orders.done or orders.park or orders.leave:
            self.done, self.leaving = True, orders.leave
            if orders.park:
                self.news += [self._report(trial, parked=True, left=True) for trial in self.held]
                self.held = {}
            if self.news:
                self.leaving = self.say(self.news).leave
            return orders
        for order in orders.start:
            epoch = order.checkpoints[0].epoch if order.checkpoints else 0
            self.held[order.trial.id] = order, epoch, []
        return orders

    def say(self, reports):
        answer = super().say(reports)
        if self.draw.random() < self.lost:
            again = Message(self.id, self.messages, list(reports), self.free, self.trained, [])
            assert (answer := self.conductor.exchange(again)) is not None
        return answer


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.close()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("lost", "late", "withdrawn"), [(0, 0, False), (0, 3, False), (0.1, 0, False), (0, 0, True), (0.1, 2, True)],
    ids=["plainly", "answers late", "answers lost", "withdrawn", "all"],
)  # fmt: skip
def test_every_study_ends_and_no_trial_is_left_behind(room, seed, lost, late, withdrawn):
    """A lane that left is started again, as Tune does; one that was told that it is done is not."""
    draw, lanes, count = random.Random(seed), {}, 0
    conductor = room.conductor("search.trials=8", "search.halving.first=1", slots=2)

    def begin(slot):
        nonlocal count
        count += 1
        lane = Leaver(conductor, slot, single=True, late=lambda: draw.randint(0, late), node=f"node {count}")
        lane.lost, lane.draw = lost, draw
        return lane

    for slot in "ab":
        lanes[slot] = begin(slot)
    for _ in range(4000):
        if not lanes:
            break
        slot = draw.choice(list(lanes))
        if draw.random() < 0.03:
            conductor.drain({f"node {draw.randint(max(1, count - 1), count)}"})
        elif withdrawn and draw.random() < 0.03:
            conductor.drain(set())
        if not lanes[slot].turn():
            if lanes[slot].leaving:
                lanes[slot] = begin(slot)
            else:
                del lanes[slot]
    assert not lanes and conductor.over() and not room.rows(state="running")
    assert len(room.rows("confirm", state="complete")) == 4
    assert {row["crashes"] for row in room.rows()} == {0}
