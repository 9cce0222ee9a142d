"""`losstune run` from a file to its report, as real processes with real Ray, and what may happen to them on the way."""

import json
import shutil
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from processes import told
from ran import Ran, assert_as_retrained, folder_with, retrained

from losstune import load_model, load_results
from losstune.search.ledger import read
from losstune.search.locations import ledger_path
from losstune.search.plan import make_plan
from losstune.search.study import load_study
from losstune.trainables.metrics import accuracy

LOSSES = ["softmax", "sigmoid", "squared_error"]
TEXT = """\
data: digits
network: mlp
baseline: softmax
losses: [softmax, sigmoid, squared_error]
recipe: {epochs: 9}
search: {trials: 4, seeds: 3, halving: {first: 3, factor: 3}}
confirm: {seeds: 3}
"""


# --- an undisturbed run, and what the same command does then ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory, start):
    """Run to its end; number: that of its process; second: how the same command ended meanwhile; listened: where it
    and its processes did."""
    ran = Ran(folder_with(tmp_path_factory, "finished", my__yaml=TEXT), start)
    running = ran.begin()
    running.until(lambda: ledger_path(ran.out).is_file() and (ran.out / "ledger" / "lock").read_text())
    ran.number, ran.second = running.process.pid, told(ran.folder, "run", "my.yaml")
    running.until(lambda: ran.trials("search"))
    ran.listened = running.listeners()
    ran.ended = running.wait()
    return ran


def test_a_study_runs_from_its_file_to_its_report(finished):
    """Status 0, and the last line says where the report is."""
    assert finished.ended.status == 0, finished.ended
    assert finished.ended.out.splitlines()[-1] == f"report: {finished.report / 'report.html'}"


def test_a_second_run_at_the_same_time_is_refused(finished):
    """In one line that says who runs it; the first one goes on."""
    said = finished.second
    assert said.status == 2 and f"process {finished.number} on" in said.err and said.err.count("\n") == 1, said


def test_nobody_from_outside_can_reach_what_runs(finished):
    addresses = [ip_address(address.removeprefix("::ffff:")) for address in finished.listened]
    assert addresses and all(address.is_loopback for address in addresses)


def test_the_report_is_complete(finished):
    """What scripts and people rely on."""
    files = set(finished.files())
    assert {"report.html", "table.csv", "runs.csv", "verdict.json", "winner.yaml"} <= files
    assert {Path(name).suffix for name in files} >= {".md", ".tex", ".svg"}
    table = pd.read_csv(finished.report / "table.csv")
    assert set(table["loss"]) == set(LOSSES) and (table["n_seeds"] == 3).all()
    assert {"mean", "standard_error", "in_best_set"} <= set(table.columns)
    json.loads((finished.report / "verdict.json").read_text())


def test_every_member_is_in_the_runs(finished):
    """A row per loss and seed, every metric; NLL and ECE where the loss defines probabilities."""
    rows = finished.members()
    assert sorted(zip(rows["loss"], rows["seed"], strict=True)) == sorted(
        (loss, k) for loss in LOSSES for k in range(3)
    )
    assert rows[["accuracy", "top5_accuracy"]].notna().all(axis=None)
    assert (rows["nll"].isna() == (rows["loss"] == "squared_error")).all()
    assert (rows["ece"].isna() == (rows["loss"] == "squared_error")).all()


def test_the_runs_are_what_the_predictions_say(finished):
    """A metric is of the stored logits and nothing else."""
    for row in finished.members().itertuples():
        stored = finished.predictions(f"confirm0-{row.loss}-{row.seed:04d}")
        assert row.accuracy == accuracy(stored.test_logits, stored.test_targets)


def test_every_loss_had_the_same_budget(finished):
    """The same number of configurations, the default first."""
    for loss in LOSSES:
        assert [row["number"] for row in finished.trials("search", loss=loss)] == [0, 1, 2, 3]
        assert all(row["state"] in ("complete", "stopped", "failed") for row in finished.trials("search", loss=loss))


def test_confirm_is_what_training_alone_gives(finished):
    """A member's result does not depend on its company, bit for bit."""
    assert_as_retrained(finished)


def test_the_winner_predicts_as_it_was_confirmed(finished):
    """The weights beside the report are those of the member whose seed it names."""
    fields = yaml.safe_load((finished.report / "winner.yaml").read_text())
    plan = make_plan(load_study(finished.folder / "my.yaml"))
    model = load_model(finished.report / "winner.yaml")
    rows = finished.members().set_index(["loss", "seed"])
    predicted = model.predict(plan.test.x)
    assert (predicted == plan.test.y).mean() == rows.loc[(fields["loss"], fields["seed"]), "accuracy"]
    assert rows.groupby("loss")["accuracy"].mean().max() == pytest.approx(fields["mean"])


def test_nothing_is_written_outside_out(finished):
    """Neither beside the study file nor where the command was called from."""
    assert {path.name for path in finished.folder.iterdir()} == {"my.yaml", "runs", ".out", ".err"}


def test_no_checkpoint_is_left(finished):
    """Ended trials need none, and disks fill up."""
    assert not [path for path in (finished.out / "checkpoints").rglob("*") if path.is_file()]


def test_the_same_command_again_says_done_and_changes_nothing(finished, losstune, monkeypatch):
    """Not even the time of a file; nor does it start Ray."""
    monkeypatch.chdir(finished.folder)
    before, times = finished.files(), {path: path.stat().st_mtime_ns for path in finished.report.rglob("*")}
    ended = losstune("run", "my.yaml")
    assert ended.status == 0 and ended.out.splitlines()[0].startswith("done")
    assert f"report: {finished.report / 'report.html'}" in ended.out.splitlines()
    assert finished.files() == before and {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("recipe.epochs=10", "recipe.epochs: was 9, now 10"),
        ("metric=macro_f1", "metric: was 'accuracy', now 'macro_f1'"),
        ("split.seed=1", "split.seed: was 0, now 1"),
        ("search.seeds=2", "search.seeds: was 3, now 2"),
        ("losses=[{softmax: {learning_rate: 0.1}}, sigmoid, squared_error]", "losses.softmax.learning_rate: was"),
    ],
)
def test_a_changed_study_is_refused_with_the_difference(finished, losstune, monkeypatch, change, said):
    """Evidence of two different studies is not mixed, nor overwritten."""
    monkeypatch.chdir(finished.folder)
    before = finished.files()
    ended = losstune("run", "my.yaml", "--set", change)
    assert ended.status == 2 and ended.err.count("\n") == 1 and said in ended.err, ended
    assert finished.files() == before


@pytest.fixture(scope="module")
def extended(finished, tmp_path_factory, start):
    """The finished study, elsewhere, with more seeds; before: its trials and predictions as they were."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(finished.folder, folder, dirs_exist_ok=True)
    ran = Ran(folder, start)
    ran.before = ran.trials(), ran.files("predictions"), ran.members()
    return ran.run("--seeds", "5")


def test_more_seeds_add_only_those(extended):
    """What was confirmed is not trained again."""
    trials, stored, members = extended.before
    assert extended.ended.status == 0, extended.ended
    assert [row for row in extended.trials() if row["id"] in {old["id"] for old in trials}] == trials
    assert len(extended.trials()) == len(trials) + 6
    assert stored.items() <= extended.files("predictions").items()
    now = extended.members()
    assert len(now) == 15 and now.merge(members).shape == members.shape


def test_more_seeds_are_the_seeds_that_more_would_have_been(extended):
    """Seed 4 is the same, whether it was asked for at once or later."""
    assert_as_retrained(extended, "confirm.seeds=5")


def test_seeds_added_after_a_look_are_pointed_out(extended):
    """The error rate is no longer guaranteed, and the report says so."""
    assert any("Seeds were added" in note for note in load_results(extended.out).notes)


# --- everything of one's own: data, network, metric ---

DATA = """
import numpy as np
from sklearn.datasets import load_digits
def load():
    x, y = load_digits(return_X_y=True)
    x, keep = x.reshape(-1, 8, 8).astype(np.uint8) * 15, (y < 3) & ((y > 0) | (np.arange(len(y)) % 3 == 0))
    x, y = x[keep], y[keep]
    return x[:300], y[:300], x[300:], y[300:]
"""
# A user's file may have the name of one of losstune's rooms.
NET = """
from torch import nn
def build(input_shape, num_classes):
    return nn.Sequential(nn.Conv2d(input_shape[0], 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(36, num_classes))
"""
METRIC = """
def score(logits, targets):
    return float((logits.argmax(1) != targets).mean())
score.greater_is_better = False
"""
OWN = """\
data: my_data.py:load
network: analysis.py:build
metric: search.py:score
losses: [softmax, {label_smoothing: {alpha: [0.05, 0.1]}}]
recipe: {epochs: 4, batch_size: 32, class_weights: balanced, augmentation: crop}
search: {method: random, trials: 2, seeds: 2, halving: null}
confirm: {seeds: 2, train_on: all}
resources: {max_lanes: 1}
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory, start):
    """This study and that of the next section, run at the same time on one machine; studies do not meet."""
    files = {"my__yaml": OWN, "my_data__py": DATA, "analysis__py": NET, "search__py": METRIC}
    ran = [Ran(folder_with(tmp_path_factory, "own", **files), start), Ran(vectors_folder(tmp_path_factory), start)]
    processes = [study.begin() for study in ran]
    for study, process in zip(ran, processes, strict=True):
        study.ended = process.wait()
    return ran


@pytest.fixture(scope="module")
def own(both):
    return both[0]


def test_ones_own_data_network_and_metric(own):
    """Shipped to the lanes, by whatever name; random search; class weights; augmentation."""
    assert own.ended.status == 0, own.ended
    rows = own.members()
    assert len(rows) == 4 and np.allclose(rows["search.py:score"], 1 - rows["accuracy"])
    assert {row["state"] for row in own.trials("search")} == {"complete"}


def test_ones_own_metric_decides_in_its_own_direction(own):
    """An error rate: the lowest is chosen, and wins."""
    for choice in own.read(read.all_choices):
        scores = [row["score"] for row in own.trials("search", loss=choice["loss"])]
        assert choice["score"] == min(scores)
    means = own.members().groupby("loss")["search.py:score"].mean()
    assert means[yaml.safe_load((own.report / "winner.yaml").read_text())["loss"]] == means.min()


def test_train_on_all_trains_on_validation_too(own):
    """Bit for bit what training on both splits gives; and there is no score on validation to report."""
    assert_as_retrained(own)
    validation = [name for name in own.members() if name.startswith("validation_")]
    assert own.members()[validation].isna().all(axis=None)


def test_a_winner_needs_nothing_of_ones_own_files(own, tmp_path):
    """It carries the network's text."""
    shutil.copytree(own.report, tmp_path / "report")
    plan = make_plan(load_study(own.folder / "my.yaml"))
    model = load_model(tmp_path / "report" / "winner.yaml")
    rows = own.members().set_index(["loss", "seed"])
    found = [row.accuracy for row in rows.itertuples() if row.Index[0] == model.loss]
    assert (model.predict(plan.test.x) == plan.test.y).mean() in found


def test_changed_files_of_ones_own_are_a_changed_study(own, losstune, monkeypatch, tmp_path):
    """They are part of its identity."""
    copy = tmp_path / "own"
    shutil.copytree(own.folder, copy)
    (copy / "analysis.py").write_text(NET.replace("Conv2d(input_shape[0], 4,", "Conv2d(input_shape[0], 4 ,"))
    monkeypatch.chdir(copy)
    ended = losstune("run", "my.yaml")
    assert ended.status == 2 and "network: its file has changed" in ended.err, ended


def test_a_study_whose_own_file_has_changed_is_not_trained_again(own, losstune, monkeypatch):
    """What came of it would look as if the study did not repeat itself."""
    monkeypatch.chdir(own.folder)
    assert losstune("rerun", "my", "search-softmax-0000").status == 0
    (own.folder / "analysis.py").write_text(NET.replace("Conv2d(input_shape[0], 4,", "Conv2d(input_shape[0], 4 ,"))
    ended = losstune("rerun", "my", "search-softmax-0000")
    (own.folder / "analysis.py").write_text(NET)
    assert ended.status == 2 and ended.out == "" and ended.err.count("\n") == 1, ended
    assert "network: its file has changed" in ended.err, ended


# --- feature vectors, a cost matrix, bfloat16, a loss that always fails ---

VECTORS = """\
data: npz:my.npz
network: mlp
metric: cost:costs.csv
losses: [softmax, squared_error, {sigmoid: {learning_rate: 1.0e+30}}]
recipe: {epochs: 4, batch_size: 16, precision: bfloat16, class_weights: [1, 2, 1]}
search: {trials: 2, seeds: 2, halving: {first: 2, factor: 2}}
confirm: {seeds: 2}
resources: {max_lanes: 1}
"""
COSTS = np.array([[0, 1, 5], [1, 0, 1], [2, 1, 0]])


@pytest.fixture(scope="module")
def vectors(both):
    return both[1]


def vectors_folder(tmp_path_factory) -> Path:
    folder = folder_with(tmp_path_factory, "vectors", my__yaml=VECTORS)
    np.savetxt(folder / "costs.csv", COSTS, delimiter=",")
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    x = rng.normal(size=(400, 6)) + 2 * np.eye(3, 6)[y]
    np.savez(folder / "my.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return folder


def test_a_study_with_failed_members_ends_with_3_and_names_the_loss(vectors):
    """It is complete, but somebody should look."""
    assert vectors.ended.status == 3, vectors.ended
    assert "sigmoid: 2 of 2 confirmed members failed" in vectors.ended.out
    assert "search-sigmoid-0000 failed: " in vectors.ended.err


def test_a_loss_that_always_fails_scores_as_the_constant_predictor(vectors):
    """Never missing from runs.csv or the table."""
    rows = vectors.members().set_index("loss")
    y_train, y_test = (np.load(vectors.folder / "my.npz")[name] for name in ("y_train", "y_test"))
    constant = np.bincount(make_plan(load_study(vectors.folder / "my.yaml")).train.y).argmax()
    assert (rows.loc["sigmoid", "state"] == "failed").all()
    assert (rows.loc["sigmoid", "cost:costs.csv"] == COSTS[y_test, constant].mean()).all()
    assert set(pd.read_csv(vectors.report / "table.csv")["loss"]) == {"softmax", "squared_error", "sigmoid"}


def test_costs_are_those_of_the_predictions(vectors):
    """Row true class, column predicted class, the mean over the test set."""
    for row in vectors.members().itertuples():
        if row.state == "complete":
            stored = vectors.predictions(f"confirm0-{row.loss}-{row.seed:04d}")
            cost = COSTS[stored.test_targets, stored.test_logits.argmax(1)].mean()
            assert vectors.members().set_index(["loss", "seed"]).loc[(row.loss, row.seed), "cost:costs.csv"] == cost


def test_the_lowest_cost_wins(vectors):
    """In the choice of configurations, the table and winner.yaml."""
    means = vectors.members().groupby("loss")["cost:costs.csv"].mean()
    winner = yaml.safe_load((vectors.report / "winner.yaml").read_text())
    assert means[winner["loss"]] == means.min() and means["sigmoid"] == means.max()
    for choice in vectors.read(read.all_choices):
        full = [row["score"] for row in vectors.trials("search", loss=choice["loss"], state="complete")]
        assert choice["score"] == (min(full) if full else None)


def test_bfloat16_is_another_arithmetic(vectors):
    """The predictions are those of a bfloat16 network, and not of a float32 one."""
    expected = {precision: retrained(vectors, f"recipe.precision={precision}") for precision in ("bfloat16", "float32")}
    for trial in expected["bfloat16"]:
        stored = vectors.predictions(trial).test_logits
        assert np.array_equal(stored, expected["bfloat16"][trial][1])
        assert not np.array_equal(stored, expected["float32"][trial][1])


def test_the_winner_of_a_bfloat16_study_predicts(vectors):
    """In float32, which is close."""
    plan = make_plan(load_study(vectors.folder / "my.yaml"))
    model = load_model(vectors.report / "winner.yaml")
    stored = vectors.predictions(f"confirm0-{model.loss}-0000")
    assert (model.predict(plan.test.x) == stored.test_logits.argmax(1)).mean() > 0.95


# --- a metric that fails ---

RAISING = """\
def score(logits, targets):
    if len(targets) == 216 and not (logits == logits[0]).all():
        raise ValueError("boom")
    return float((logits.argmax(1) == targets).mean())
"""


def test_a_metric_that_raises_while_training_ends_the_study(tmp_path_factory, start):
    """It would raise on every lane: one line and status 3, not a restart of lanes without end."""
    text = TEXT + "metric: my_metric.py:score\n"
    ran = Ran(folder_with(tmp_path_factory, "raising", my__yaml=text, my_metric__py=RAISING), start).run()
    assert ran.ended.status == 3, ran.ended
    assert "my_metric.py:score raised ValueError: boom (line 3)" in ran.ended.err
    assert "Traceback" not in ran.ended.out + ran.ended.err
