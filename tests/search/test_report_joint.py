"""`losstune report A B`: one report over several studies, and what cannot be joined."""

import contextlib
import json
import shutil
import sqlite3

import pytest

from losstune.search.locations import ledger_path
from losstune.search.reporting import MOST_LETTERS


@pytest.fixture
def runs(finished_study, tmp_path, monkeypatch):
    """The folder of runs, with the finished study my; it is the current directory's runs/."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_study.out, tmp_path / "runs" / "my")
    return tmp_path / "runs"


def another(runs, name="other", digest="f" * 64, **about):
    """The same study under another name, of another data set, with the same scores. digest: None keeps its own."""
    shutil.copytree(runs / "my", runs / name)
    with changing(runs / name) as connection:
        (study,) = connection.execute("SELECT value FROM meta WHERE key = 'study'").fetchone()
        changed = {**json.loads(study), "name": name, "data": "others", **about}
        connection.execute("UPDATE meta SET value = ? WHERE key = 'study'", (json.dumps(changed),))
        (facts,) = connection.execute("SELECT value FROM meta WHERE key = 'facts'").fetchone()
        facts = json.loads(facts)
        facts["data_digest"] = digest or facts["data_digest"]
        connection.execute("UPDATE meta SET value = ? WHERE key = 'facts'", (json.dumps(facts),))
    return runs / name


@contextlib.contextmanager
def changing(folder):
    """The ledger of a study, to write into."""
    with contextlib.closing(sqlite3.connect(ledger_path(folder))) as connection, connection:
        yield connection


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".html", ".json")}


def test_two_studies_in_one_report(runs, losstune):
    another(runs)
    before = files_of(runs / "my" / "report")
    ended = losstune("report", "my", "other")
    page = runs / "joint" / "my+other" / "report.html"
    headline, where = ended.out.splitlines()
    assert (ended.status, ended.err, where) == (0, "", f"report: {page}")
    assert headline.startswith("No winner: the 2 losses are not shown to differ over 2 data sets.")
    text = page.read_text()
    assert headline.partition(".")[0] in text
    assert all(f'href="../../{name}/report/report.html"' in text for name in ("my", "other"))
    assert (page.parent / "../../other/report/report.html").is_file() and files_of(runs / "my" / "report") == before


@pytest.mark.usefixtures("undrawn")
def test_the_same_data_under_another_name_are_one_data_set(runs, losstune):
    another(runs, digest=None)
    ended = losstune("report", "my", "other")
    assert ended.out.startswith("All 2 studies use the data set digits: nothing can be said about other data sets.")
    warnings = json.loads((runs / "joint" / "my+other" / "verdict.json").read_text())["warnings"]
    assert "digits and others are the same data, by their digest, and count as one data set" in warnings


@pytest.mark.usefixtures("undrawn")
def test_it_counts_as_a_look_at_the_test_sets(runs, losstune, finished_study):
    shutil.copytree(finished_study.out.parent / "test_sets", runs / "test_sets")
    (path,) = (runs / "test_sets").glob("*/my-*.json")
    noted = json.loads(path.read_text())
    path.write_text(json.dumps({**noted, "looks": []}))
    another(runs)
    assert losstune("report", "my", "other").status == 0
    assert json.loads(path.read_text()) == noted and noted["looks"] == [[0, 4]]


@pytest.mark.usefixtures("undrawn")
def test_a_study_without_a_report_of_its_own_has_no_link(runs, losstune):
    shutil.rmtree(another(runs) / "report")
    assert losstune("report", "my", "other").status == 0
    text = (runs / "joint" / "my+other" / "report.html").read_text()
    assert "../../my/report/report.html" in text and "../../other" not in text and "No report yet: other." in text


@pytest.mark.usefixtures("undrawn")
def test_long_names_make_a_short_folder(runs, losstune):
    names = [another(runs, letter * 60, data=letter).name for letter in "ab"]
    assert losstune("report", *names).status == 0
    (folder,) = (runs / "joint").iterdir()
    assert folder.name.startswith("2-studies-") and len(folder.name) < MOST_LETTERS


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("twice", "the study my (digits, mlp) is given twice"),
        ({"metric": "nll", "greater_is_better": False}, "the metric of my is accuracy, that of other nll"),
        ({"losses": ["softmax"]}, "the studies have 1 confirmed losses in common; needed: at least 2"),
        ("unconfirmed", "other: nothing is confirmed yet"),
        ("missing", "none: no such study file"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_one_line(about, said, runs, losstune):
    folder = another(runs, **(about if isinstance(about, dict) else {}))
    if about == "unconfirmed":
        with changing(folder) as connection:
            connection.execute("DELETE FROM trials WHERE phase = 'confirm'")
    ended = losstune("report", "my", {"twice": "my", "missing": "none"}.get(str(about), "other"))
    assert ended.status == 2 and ended.out == "" and ended.err.count("\n") == 1 and said in ended.err, ended
    assert not (runs / "joint").exists()
