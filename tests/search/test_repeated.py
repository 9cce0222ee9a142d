"""Studies that repeat their search: what is the same in all searches, what is not; interrupted, resumed, looked at."""

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest
from ran import Ran, begun, folder_with

from losstune.search.locations import ledger_path
from losstune.search.plan import make_plan
from losstune.search.repeated import folders_of, searches_of
from losstune.search.study import load_study
from losstune.spaces import InputError

TEXT = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 3}
search: {trials: 2, seeds: 2, halving: {first: 1, factor: 3}}
searches: 2
confirm: {seeds: 2}
resources: {max_lanes: 1}
"""


@pytest.fixture
def study_of(tmp_path):
    """study_of(text): a study from a file."""

    def of(text: str):
        (tmp_path / "my.yaml").write_text(text)
        return load_study(tmp_path / "my.yaml")

    return of


# --- what a search is ---


def test_every_search_is_a_study_of_its_own(study_of):
    """Named after the study, with a split of its own, and otherwise the same."""
    study = study_of(TEXT)
    first, second = searches_of(study)
    assert (first.name, second.name) == ("my-search-1", "my-search-2")
    assert len({study.split.seed, first.split.seed, second.split.seed}) == 3
    for search in (first, second):
        assert search.searches == 1
        own = {"name": "my", "split": study.split.model_dump(), "searches": 2}
        assert search.model_dump() | own == study.model_dump()


def test_splits_follow_from_the_study_s_seed(study_of):
    """The same on every machine; another seed gives others, and the share held out stays."""
    text = TEXT + "split: {validation: 0.2, seed: 7}\n"
    seeds = [search.split.seed for search in searches_of(study_of(text))]
    assert seeds == [search.split.seed for search in searches_of(study_of(text))]
    assert not set(seeds) & {search.split.seed for search in searches_of(study_of(TEXT))}
    assert all(search.split.validation == 0.2 for search in searches_of(study_of(text)))


def test_the_test_split_is_the_same_in_all_searches(study_of):
    """Digits has no test split of its own: the one that is made of it is fixed. Validation differs."""
    first, second = map(make_plan, searches_of(study_of(TEXT)))
    assert np.array_equal(first.test.x, second.test.x) and np.array_equal(first.test.y, second.test.y)
    assert not np.array_equal(first.validation.x, second.validation.x)
    assert first.digest == second.digest and len(first.train) == len(second.train)


def test_a_table_without_a_test_split_keeps_its_own_too(study_of, tmp_path):
    """A fifth of its rows, always the same."""
    rows = [f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["u,v,label", *rows]) + "\n")
    text = TEXT.replace("data: digits", "data: csv:t.csv").replace("epochs: 3", "epochs: 3, batch_size: 8")
    first, second = map(make_plan, searches_of(study_of(text)))
    assert np.array_equal(first.test.x, second.test.x) and not np.array_equal(first.validation.x, second.validation.x)


# --- bad input ---


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "[2]", "1001"])
def test_searches_is_a_whole_number(study_of, value):
    """One line that names the field."""
    with pytest.raises(InputError, match="searches: "):
        study_of(TEXT.replace("searches: 2", f"searches: {value}"))


def test_planned_looks_and_searches_exclude_each_other(study_of):
    """A look is at seeds; searches that stop at different looks would be no rows of one table."""
    with pytest.raises(InputError, match=r"confirm.seeds: looks are planned at \[2, 4\] seeds"):
        study_of(TEXT.replace("confirm: {seeds: 2}", "confirm: {seeds: [2, 4]}"))
    assert study_of(TEXT.replace("confirm: {seeds: 2}", "confirm: {seeds: [2]}")).searches == 2


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(TEXT)
    return tmp_path


def test_searches_that_have_begun_are_not_left_out(here, losstune):
    """It would be a choice among results."""
    begun(here, "my-search-1", "my-search-2", "my-search-3")
    ended = losstune("run", "my.yaml")
    assert ended.status == 2 and "searches: 2 is fewer than the 3 that have begun" in ended.err


def test_a_study_of_one_search_is_not_made_one_of_several(here, losstune):
    """Nor the other way round: its folder is the report's."""
    begun(here, "my")
    ended = losstune("run", "my.yaml")
    assert ended.status == 2 and "my was run with one search before" in ended.err


def test_a_study_of_several_searches_is_not_made_one_of_one(here, losstune):
    begun(here, "my-search-1")
    ended = losstune("run", "my.yaml", "--set", "searches=1")
    assert ended.status == 2 and "my: is made of several studies" in ended.err and "my-search-1" in ended.err


def test_folders_are_in_order_and_no_other_study_s(tmp_path):
    """10 comes after 9; a name that only looks alike is another study."""
    begun(tmp_path, *(f"my-search-{number}" for number in (10, 9, 1)), "my-search-x", "my-search-01", "other-search-1")
    found = [place.name for place in folders_of(tmp_path / "runs" / "my")]
    assert found == ["my-search-1", "my-search-9", "my-search-10"]


def test_check_says_what_all_searches_take(here, losstune):
    """28 member-epochs each: 16 of the search, 12 of confirm."""
    ended = losstune("check", "my.yaml")
    assert ended.status == 0
    assert "searches  all of it 2 times, each time with a split of its own: about 56 member-epochs" in ended.out


# --- a run, interrupted between two searches ---


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, start):
    """Interrupted as soon as the second search has begun, then run to its end."""
    ran = Ran(folder_with(tmp_path_factory, "repeated", my__yaml=TEXT), start)
    ran.searches = [Ran(ran.folder, start, f"my-search-{number}") for number in (1, 2)]
    running = ran.begin()
    running.until(lambda: ledger_path(ran.searches[1].out).is_file())
    running.interrupt()
    ran.at_interruption = running.wait()
    ran.first_before = ran.searches[0].trials()
    return ran.run()


def test_it_is_interrupted_between_searches_and_resumed(repeated):
    """The first search was done then, and stays as it was."""
    assert repeated.at_interruption.status == 130, repeated.at_interruption
    assert repeated.at_interruption.out.splitlines()[-1] == (
        "interrupted; the same command goes on: losstune run my.yaml")  # fmt: skip
    assert repeated.ended.status == 0, repeated.ended
    assert repeated.first_before == repeated.searches[0].trials()


def test_a_third_run_has_nothing_to_do(repeated, losstune, monkeypatch):
    """And writes nothing; nor does it start Ray."""
    monkeypatch.chdir(repeated.folder)
    before = {path: path.stat().st_mtime_ns for path in repeated.report.rglob("*")}
    ended = losstune("run", "my.yaml")
    assert ended.status == 0 and "done: nothing is left to do" in ended.out, ended
    assert {path: path.stat().st_mtime_ns for path in repeated.report.rglob("*")} == before


def test_every_search_has_the_same_budget_and_draws_of_its_own(repeated):
    """As many trials of each loss; other configurations beyond the default, other weights."""
    first, second = ({row["id"]: row for row in search.trials("search")} for search in repeated.searches)
    assert sorted(first) == sorted(second) and len(first) == 4
    same = {name for name in first if first[name]["parameters"] == second[name]["parameters"]}
    assert same == {"search-softmax-0000", "search-squared_error-0000"}
    logits = [search.predictions("confirm0-softmax-0000").test_logits for search in repeated.searches]
    assert logits[0].shape == logits[1].shape and not np.array_equal(*logits)


def test_rows_of_the_verdict_are_means_of_searches(repeated):
    """Two rows, of the members that the searches' own reports have."""
    verdict = json.loads((repeated.report / "verdict.json").read_text())
    assert verdict["study"] == "my" and verdict["n_seeds"] == 2
    assert (verdict["searches"]["count"], verdict["searches"]["planned"], verdict["searches"]["seeds"]) == (2, 2, 2)
    assert not any("guaranteed" in note for note in verdict["notes"])
    own = [search.members().groupby("loss")["accuracy"].mean() for search in repeated.searches]
    table = pd.read_csv(repeated.report / "table.csv").set_index("loss")
    for loss in ("softmax", "squared_error"):
        assert table.loc[loss, "mean"] == pytest.approx((own[0][loss] + own[1][loss]) / 2)
        assert table.loc[loss, "standard_error"] == pytest.approx(abs(own[0][loss] - own[1][loss]) / 2)
    assert len(repeated.members()) == 8


def test_mlflow_has_the_report_over_the_searches_and_what_each_has_come_to(repeated):
    """Beside the searches' own experiments; the third run had nothing to write."""
    connection = sqlite3.connect(repeated.folder / "runs" / "mlflow.db")
    found = dict(connection.execute("SELECT r.name, r.status FROM runs r JOIN experiments e USING (experiment_id) "
                                    "WHERE e.name = 'my'"))  # fmt: skip
    experiments = {name for (name,) in connection.execute("SELECT name FROM experiments")}
    connection.close()
    losses = ("softmax", "squared_error")
    searches = {f"{loss} search {number}" for loss in losses for number in (1, 2)}
    assert set(found) == {"report my", *(f"searches {loss}" for loss in losses), *searches}
    assert set(found.values()) == {"FINISHED"} and {"my", "my-search-1", "my-search-2"} <= experiments
    pages = list((repeated.folder / "runs" / "mlartifacts" / "my").glob("*/artifacts/report.html"))
    assert [page.read_bytes() for page in pages] == [(repeated.report / "report.html").read_bytes()]


def test_commands_take_all_searches_or_name_them(repeated, losstune, monkeypatch):
    """status, report and stop are of all; what looks at one trial wants one search."""
    monkeypatch.chdir(repeated.folder)
    said = losstune("status", "my").out
    assert "my-search-1" in said and "my-search-2" in said and "report over all" in said
    table = pd.read_csv(repeated.report / "table.csv").sort_values("mean", ascending=False, kind="stable")
    rows = [line.split() for line in said.splitlines() if line.split()[0] in ("softmax", "squared_error")]
    assert sorted(rows) == sorted([row.loss, "2/2", f"{row.mean_:.4f}"]
                                  for row in table.rename(columns={"mean": "mean_"}).itertuples())  # fmt: skip
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    page = (repeated.report / "report.html").read_bytes()
    (repeated.report / "report.html").unlink()
    assert losstune("report", "my").status == 0 and (repeated.report / "report.html").read_bytes() == page
    assert losstune("stop", "my").out.strip() == "nobody is running it"
    refused = losstune("show", "my", "search-softmax-0000")
    assert refused.status == 2 and "allowed here: one of my-search-1, my-search-2" in refused.err
    assert losstune("show", "my-search-2", "search-softmax-0000").status == 0
