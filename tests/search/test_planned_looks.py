"""Looks that a study plans: one after another, as far as they are needed; and what is no longer as planned.

Nothing is trained here: what lanes would report of a confirmed seed is written into the ledger of a study that has
really searched. test_plugin.py has looks that are really trained.
"""

import contextlib
import json
import shutil

import pytest
from sqlalchemy import delete

from losstune.analysis import report as page
from losstune.search import phases, tracking
from losstune.search.ledger import read, schema, write
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.locations import ledger_path
from losstune.search.phases import run_study
from losstune.search.plan import make_plan
from losstune.search.provenance import about, record
from losstune.search.recorded import load_results
from losstune.search.standing import standing
from losstune.search.status import recorded_study
from losstune.search.study import load_study

# With 2 seeds p is 0.025, above 0.05 / 3; with a third one it is far below.
CLEAR = {"softmax": [0.9, 0.9, 0.9, 0.9, 0.9], "squared_error": [0.85, 0.85, 0.85, 0.85, 0.85]}
OPEN = {"softmax": [0.9, 0.8, 0.9, 0.8, 0.9], "squared_error": [0.8, 0.9, 0.8, 0.9, 0.8]}


class Planned:
    """A study that has searched, whose seeds end as scores say."""

    def __init__(self, ran, monkeypatch):
        self.ran, self.scores, self.trained, self.reported = ran, OPEN, [], []
        self.templates = {row["loss"]: row for row in ran.trials("confirm", number=0)}
        self.interrupted_after = None
        with self.ledger() as ledger, ledger.transaction() as tx:
            tx.execute(delete(schema.trials).where(schema.trials.c.phase == "confirm"))
            set_meta(tx, "report_of", None)
        shutil.rmtree(ran.report)
        shutil.rmtree(ran.out.parent / "test_sets")
        self.plan_looks("[2, 3, 4]")
        monkeypatch.setattr(phases, "_train", self._train)
        monkeypatch.setattr(tracking, "Projection", NoProjection)
        monkeypatch.setattr(page, "write_report", self._report)

    @contextlib.contextmanager
    def ledger(self):
        with contextlib.closing(Ledger.create_or_open(ledger_path(self.ran.out))) as ledger:
            yield ledger

    def plan_looks(self, looks, *overrides):
        """The study is begun with a plan, and nothing is confirmed yet."""
        text = (self.ran.folder / "my.yaml").read_text()
        before = text[text.index("confirm:") : text.index("\n", text.index("confirm:"))]
        (self.ran.folder / "my.yaml").write_text(text.replace(before, f"confirm: {{seeds: {looks}}}"))
        with self.ledger() as ledger:
            with ledger.transaction() as tx:
                set_meta(tx, "study", about(self.plan(*overrides)))
            with ledger.transaction() as tx:
                tx.execute(delete(schema.events).where(schema.events.c.kind == "seeds"))

    def plan(self, *overrides):
        return make_plan(load_study(self.ran.folder / "my.yaml", overrides))

    def run(self, *overrides):
        return run_study(load_study(self.ran.folder / "my.yaml", overrides), self.ran.folder / "runs")

    def confirm(self, loss, seed):
        row, accuracy = self.templates[loss], self.scores[loss][seed]
        results = {part: {**scores, "accuracy": accuracy} for part, scores in row["results"].items()}
        with self.ledger() as ledger, ledger.transaction() as tx:
            write.add_trials(tx, [{**row, "id": f"confirm0-{loss}-{seed:04d}", "number": seed, "seeds": [seed],
                                   "results": results}])  # fmt: skip

    def _train(self, plan, ledger, *_):
        known = {row["id"] for row in self.ran.trials("confirm")}
        self.trained.append(plan.study.confirm.seeds)
        for seed in range(plan.study.confirm.seeds):
            if seed == self.interrupted_after:
                return True
            for loss in plan.study.spaces:
                if f"confirm0-{loss}-{seed:04d}" not in known:
                    self.confirm(loss, seed)
        ledger.generation += len(self.ran.trials("confirm")) - len(known)  # of each that has opened it here
        return False

    def _report(self, results, folder):
        self.reported.append(results.study["confirm"]["seeds"])
        page.write_file(folder / "verdict.json", json.dumps(page.make_verdict(results)))
        return page.write_file(folder / "report.html", "a page")

    @property
    def verdict(self):
        return json.loads((self.ran.report / "verdict.json").read_text())

    def no_longer_guaranteed(self):
        return [note for note in load_results(self.ran.out).notes if "no longer guaranteed" in note]


class NoProjection:
    """MLflow is not there to be looked at."""

    behind, caught_up = None, True

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def hurry(self):
        pass

    finish = hurry


@pytest.fixture
def planned(study, monkeypatch):
    return Planned(study, monkeypatch)


def test_looks_are_taken_one_after_another(planned):
    outcome = planned.run()
    assert planned.trained == planned.reported == [2, 3, 4] and outcome.status == 0 and outcome.new
    assert len(planned.ran.trials("confirm")) == 8
    assert planned.verdict["looks"]["look"] == 3 and planned.verdict["alpha"] == pytest.approx(0.05 / 3)
    assert planned.no_longer_guaranteed() == []
    assert not planned.run().new and planned.reported == [2, 3, 4]


def test_a_run_ends_when_every_pair_is_separated(planned):
    """What is left of the plan is not needed; that is said, and a study that is done."""
    planned.scores = CLEAR
    planned.run()
    assert planned.trained == [2, 3] and len(planned.ran.trials("confirm")) == 6
    assert planned.verdict["best_set"] == ["softmax"]
    assert "Look 2 of 3, with 3 seeds: every pair is separated" in planned.verdict["headline"]
    assert "beyond are not needed" in planned.verdict["headline"]
    again = planned.run()
    assert not again.new and again.standing.phase == "done" and planned.reported == [2, 3]
    loaded, greater, ledger = recorded_study(planned.ran.out)
    with contextlib.closing(ledger):
        assert standing(loaded, ledger, greater).phase == "done" and loaded.confirm.looks == (2, 3, 4)
    planned.run("losses=[softmax, squared_error]", "confirm.seeds=3")
    assert planned.trained == [2, 3]


def test_seeds_of_a_planned_look_end_there_and_lose_nothing(planned):
    """Later the others are added, and only they."""
    planned.run("confirm.seeds=2")
    assert planned.trained == planned.reported == [2] and planned.verdict["looks"]["next"] == 3
    planned.run("confirm.seeds=3")
    assert planned.trained == planned.reported == [2, 3] and len(planned.ran.trials("confirm")) == 6
    before = planned.ran.trials("confirm")
    planned.run()
    assert planned.trained == planned.reported == [2, 3, 4] and planned.no_longer_guaranteed() == []
    after = planned.ran.trials("confirm")
    assert [row for row in after if row["number"] < 3] == before and len(after) == 8


def test_fewer_seeds_are_an_earlier_look_again(planned):
    planned.run()
    planned.run("confirm.seeds=3")
    assert planned.verdict["looks"]["look"] == 2 and planned.verdict["n_seeds"] == 3
    planned.run()
    assert planned.verdict["looks"]["look"] == 3 and planned.trained == [2, 3, 4]
    assert planned.no_longer_guaranteed() == []


@pytest.mark.parametrize(("seeds", "trained"), [(3, [2, 3]), (5, [2, 4, 5])])
def test_seeds_beside_the_plan_lose_the_guarantee(planned, seeds, trained):
    planned.plan_looks("[2, 4]")
    planned.run(f"confirm.seeds={seeds}")
    assert planned.trained == trained and planned.verdict["looks"]["look"] is None
    said = planned.no_longer_guaranteed()
    assert said == [f"Seeds added: to {seeds}, which is none of the planned looks: the error rate is no longer "
                    "guaranteed."]  # fmt: skip
    planned.run("confirm.seeds=4")
    assert planned.no_longer_guaranteed() == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[2, 3, 4]", "[2, 3]", "Planned looks changed: [2, 3, 4] to [2, 3]"),
        ("[2, 3, 4]", "[2]", "Planned looks changed: [2, 3, 4] to [2]"),
        ("2", "[2, 4]", "Planned looks changed: [2] to [2, 4]"),
        ("2", "4", "Seeds were added without a plan after results had been seen"),
    ],
)
def test_a_plan_is_made_before_results_are_seen(planned, before, after, said):
    planned.plan_looks(before)
    with planned.ledger() as ledger:  # nothing has been seen yet
        record(planned.plan(f"confirm.seeds={after}"), ledger)
        record(planned.plan(), ledger)
    assert not [event for event in planned.ran.read(read.all_events) if event["kind"] == "seeds"]
    for loss in CLEAR:
        planned.confirm(loss, 0)
    with planned.ledger() as ledger:
        record(planned.plan(f"confirm.seeds={after}"), ledger)
    assert planned.no_longer_guaranteed() == [f"{said}: the error rate is no longer guaranteed."]


def test_an_interrupted_look_goes_on(planned):
    """The looks before it are neither trained nor reported again."""
    planned.interrupted_after = 2
    outcome = planned.run("confirm.seeds=3")
    assert outcome.interrupted and planned.reported == [2]
    planned.interrupted_after = None
    planned.run("confirm.seeds=3")
    assert planned.trained == [2, 3, 3] and planned.reported == [2, 3]


def test_a_report_amid_a_look_is_of_the_look_before(planned):
    planned.run("confirm.seeds=3")
    with planned.ledger() as ledger:
        record(planned.plan(), ledger)
    planned.confirm("softmax", 3)
    results = load_results(planned.ran.out)
    assert set(results.members["seed"]) == {0, 1, 2} and results.study["confirm"]["seeds"] == 3
    planned.confirm("squared_error", 3)
    assert set(load_results(planned.ran.out).members["seed"]) == {0, 1, 2, 3}


def test_amid_the_first_look_it_is_of_what_there_is(planned):
    planned.confirm("softmax", 0)
    assert len(load_results(planned.ran.out).members) == 1


# --- how often a test set has been looked at ---


def looks(planned):
    return load_results(planned.ran.out).facts["test_set_looks"]


def test_looks_at_the_test_set_are_counted(planned):
    """Each report from new seeds is one, the same again is not."""
    planned.run("confirm.seeds=3")
    seen = looks(planned)
    assert (seen.looks, seen.studies, seen.exact, seen.unknown) == (2, 1, True, 0)
    with planned.ledger() as ledger:
        phases.report(planned.ran.out, ledger)
    assert looks(planned).looks == 2 and planned.verdict["test_set_looks"]["looks"] == 2


def test_looks_outlive_their_study(planned):
    """Of another study here, on the same data; not of one on other data."""
    planned.run("confirm.seeds=2")
    (file,) = (planned.ran.out.parent / "test_sets").glob("*/*.json")
    noted = json.loads(file.read_text())
    other, elsewhere = {**noted, "study": "gone"}, {**noted, "study": "away", "digest": "0" * 64}
    file.with_name("gone-1.json").write_text(json.dumps({**other, "looks": [[0, 6], [1, 6], [1, 9]]}))
    (file.parent.parent / "0000").mkdir()
    (file.parent.parent / "0000" / "away-1.json").write_text(json.dumps(elsewhere))
    assert (looks(planned).looks, looks(planned).studies, looks(planned).exact) == (4, 2, True)


def test_what_is_not_known_is_said(planned):
    """Of a study of an older losstune, a damaged file, and a study whose file was lost."""
    planned.run("confirm.seeds=2")
    (file,) = (planned.ran.out.parent / "test_sets").glob("*/*.json")
    shutil.copytree(planned.ran.out / "ledger", planned.ran.out.parent / "old" / "ledger")
    file.with_name("bad-1.json").write_text("[1]")
    assert (looks(planned).looks, looks(planned).unknown) == (1, 2)
    file.unlink()
    assert (looks(planned).looks, looks(planned).unknown) == (0, 3)
    with planned.ledger() as ledger:
        phases.report(planned.ran.out, ledger)
    assert (looks(planned).looks, looks(planned).exact, looks(planned).unknown) == (1, False, 2)
    assert any("at least 1 time" in note for note in planned.verdict["notes"])


def test_a_study_that_has_looked_at_nothing_is_known(planned):
    """From its beginning on."""
    planned.interrupted_after = 0
    planned.run()
    assert (looks(planned).looks, looks(planned).studies, looks(planned).unknown) == (0, 0, 0)
    with planned.ledger() as ledger, ledger.transaction() as tx:
        identity = get_meta(tx, "identity")
        set_meta(tx, "identity", {key: value for key, value in identity.items() if key != "data digest"})
    assert looks(planned) is None
