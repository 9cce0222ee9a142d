"""Which lane has which slot, and of what lanes died: the words that end up in trials' reasons and in the ledger."""

import pytest
from ray.exceptions import RayActorError

from losstune.search import roster
from losstune.search.lane_deaths import cause
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger
from losstune.search.roster import Roster
from losstune.trainables.messages import Message
from losstune.trainables.stall import stall_path


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.create_or_open(tmp_path / "ledger" / "ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def lanes(tmp_path):
    return Roster(tmp_path, 10.0)


def enter(ledger, lanes, lane: str, slot: str = "a"):
    with ledger.transaction() as tx:
        return lanes.enter(tx, slot, lane, 0.0, "cpu")


def hear(ledger, lanes, lane: str, **what):
    with ledger.transaction() as tx:
        lanes.hears(tx, Message(lane, 1, what.pop("reports", []), 3, 1.5, **what))


def events(ledger) -> list[str]:
    with ledger.reading() as tx:
        return [event["text"] for event in read.all_events(tx)]


def test_the_first_lane_of_a_slot_follows_nobody(ledger, lanes):
    """Nothing has died."""
    assert enter(ledger, lanes, "one") is None and enter(ledger, lanes, "two", "b") is None
    assert len(lanes) == 2 and events(ledger) == []


def test_a_second_lane_means_that_the_first_has_died(ledger, lanes):
    """It is recorded, though nobody has said why."""
    enter(ledger, lanes, "one")
    death = enter(ledger, lanes, "two")
    assert (death.lane, death.why, death.blameless) == ("one", "its process was gone", False)
    assert lanes.lanes == {"a": "two"}
    assert events(ledger) == ["the lane of slot a died (its process was gone) and is started again"]


def leave(ledger, lanes, why: str, with_machine: bool = False):
    """Ray tells of a death."""
    with ledger.transaction() as tx:
        return lanes.leave(tx, "a", why, with_machine)


def test_what_a_lane_says_itself_counts_more_than_what_ray_says(ledger, lanes):
    """It knows best what it died of."""
    enter(ledger, lanes, "one")
    lanes.has_failed("one", "ValueError: x")
    assert leave(ledger, lanes, "its process was killed or crashed").why == "ValueError: x"
    assert len(lanes) == 0 and enter(ledger, lanes, "two") is None


def test_where_a_lane_stood_still_counts_most(ledger, lanes, tmp_path):
    """And the file is removed, so that no later death is explained by it."""
    enter(ledger, lanes, "one")
    path = stall_path(tmp_path, "one")
    path.write_text('Timeout!\nThread 0x1 (most recent call first):\n  File "/a/net.py", line 7 in build\n')
    death = leave(ledger, lanes, "its process was killed or crashed")
    assert death.why == "nothing moved for 10 minutes, in build of net.py, line 7"
    assert not path.exists()


def test_a_lost_machine_makes_a_death_blameless_and_no_false_start(ledger, lanes):
    """However often it happens: spot machines come and go."""
    for number in range(5):
        enter(ledger, lanes, str(number))
        death = leave(ledger, lanes, "its node was lost", True)
        assert death.blameless and death.why == "its node was lost"
    assert lanes.false_starts == {}


def test_lanes_that_never_speak_are_counted_by_slot_until_one_does(ledger, lanes):
    """A lane that dies in its imports dies again; one that asked for work has started well."""
    enter(ledger, lanes, "other", "b")
    for number in range(3):
        enter(ledger, lanes, str(number))
    hear(ledger, lanes, "other")
    assert lanes.false_starts == {"a": 2}
    hear(ledger, lanes, "2")
    assert lanes.false_starts == {}
    enter(ledger, lanes, "3")
    assert lanes.false_starts == {}


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 86_400.0])
def test_late_news_of_a_death_are_not_of_the_next_lane(ledger, lanes, monkeypatch, ahead):
    """Ray may tell of one that never registered, or after the next one has; whatever the clock of its machine says."""
    monkeypatch.setattr(roster.time, "monotonic", lambda: 7.0)
    assert not lanes.is_of("a", 5.0)
    with ledger.transaction() as tx:
        lanes.enter(tx, "a", "one", roster.time.time() + ahead, "cpu")
    assert not lanes.is_of("a", 5.0) and lanes.is_of("a", 9.0)


def test_answers_of_a_dead_lane_are_forgotten(ledger, lanes):
    """Its successor's first message has the same number."""
    enter(ledger, lanes, "one")
    lanes.answered["one"] = (1, object())
    enter(ledger, lanes, "two")
    assert lanes.answered == {}


def test_what_lanes_note_is_an_event(ledger, lanes):
    """With the slot, which people know from Ray."""
    enter(ledger, lanes, "one", "b")
    hear(ledger, lanes, "one", notes=["memory ran out; 3 members at a time"])
    assert events(ledger) == ["the lane of slot b: memory ran out; 3 members at a time"]


def test_that_a_lane_lives_is_recorded_now_and_then(ledger, lanes, monkeypatch):
    """A commit for each of its calls would be a commit a second for nothing."""
    now = [0.0]
    monkeypatch.setattr(roster.time, "monotonic", lambda: now[0])
    recorded = []
    monkeypatch.setattr(roster.write, "seen_lanes", lambda tx, rows: recorded.append(now[0]))
    enter(ledger, lanes, "one")
    for now[0] in (0.0, 1.0, 4.0, 6.0, 7.0, 12.0):
        hear(ledger, lanes, "one")
    assert recorded == [0.0, 6.0, 12.0]


def test_of_many_lanes_that_only_train_the_ledger_is_told_together(ledger, lanes, monkeypatch):
    """Hundreds of lanes would keep the conductor busy with nothing else; what each has trained is there in the end."""
    now, commits = [0.0], 0
    monkeypatch.setattr(roster.time, "monotonic", lambda: now[0])
    names = [f"lane-{n}" for n in range(50)]
    for name in names:
        enter(ledger, lanes, name, f"slot of {name}")
        hear(ledger, lanes, name)
    for second in range(1, 21):
        now[0] = float(second)
        for name in names:
            message = Message(name, second, [], 0, float(second))
            if not lanes.says_only_that_it_lives(message):
                commits += 1
                with ledger.transaction() as tx:
                    lanes.hears(tx, message)
    assert commits == 4
    with ledger.reading() as tx:
        assert all(row["training_seconds"] >= 19 for row in read.all_lanes(tx))


@pytest.mark.parametrize("news", [{"free": 3}, {"notes": ["memory ran out"]}, {"reports": ["a report"]}])
def test_a_lane_with_news_or_room_is_answered(ledger, lanes, news):
    """However short a time ago the ledger was told of it."""
    enter(ledger, lanes, "one")
    hear(ledger, lanes, "one")
    message = Message("one", 2, news.get("reports", []), news.get("free", 0), 1.0, news.get("notes", []))
    assert not lanes.says_only_that_it_lives(message)


class Said(RayActorError):
    """Ray's error with a text; Ray itself makes it from the actor's records."""

    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def __str__(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("said", "words", "node"),
    [
        ("The actor died because its node has died. Node Id: abc", "its node was lost", True),
        ("The actor's node was terminated expectedly", "its node was lost", True),
        ("Worker unexpectedly exits. There are some potential root causes. (1) The process is killed by SIGKILL by OOM "
         "killer due to high memory usage: out of memory.", "its process was killed or crashed", False),
        ("Task was killed due to the node running low on memory.", "its process was ended for want of memory", False),
        ("", "its process was killed or crashed", False),
    ],
)  # fmt: skip
def test_what_ray_says_in_a_few_words(said, words, node):
    """Of the guesses that Ray lists after every crash none is taken for the cause."""
    assert cause(Said(said)) == (words, node)


def test_a_preempted_lane(monkeypatch):
    """A machine that is taken away is nobody's fault."""
    error = RayActorError()
    monkeypatch.setattr(type(error), "preempted", True, raising=False)
    assert cause(error) == ("its node was lost", True)
