"""Studies of several data sets or networks: which studies they are made of; interrupted, resumed, looked at."""

import json
import re

import pytest
from ran import Ran, begun, folder_with

from losstune.search.locations import ledger_path
from losstune.search.package import pack
from losstune.search.several import studies_of
from losstune.search.study import load_study
from losstune.spaces import InputError

TEXT = """\
data: [digits, csv:t.csv]
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 2, batch_size: 8}
search: {trials: 1, seeds: 2, halving: null}
confirm: {seeds: 3}
resources: {max_lanes: 1}
"""
TABLE = "\n".join(["u,v,label", *(f"{i},{i * i % 7},{'ab'[i % 2]}" for i in range(60))]) + "\n"


@pytest.fixture
def study_of(tmp_path):
    """study_of(text): a study from a file, t.csv beside it."""

    def of(text: str):
        (tmp_path / "my.yaml").write_text(text)
        (tmp_path / "t.csv").write_text(TABLE)
        return load_study(tmp_path / "my.yaml")

    return of


# --- what it is made of ---


def test_a_study_of_each_data_set_that_is_otherwise_the_same(study_of):
    study = study_of(TEXT)
    first, second = studies_of(study)
    assert [(one.name, one.data) for one in (first, second)] == [("my-digits", "digits"), ("my-t", "csv:t.csv")]
    for one in (first, second):
        assert not one.several and one.model_dump() | {"name": "my", "data": "digits"} == study.model_dump()


def test_a_study_for_each_combination_of_data_set_and_network(study_of):
    names = [one.name for one in studies_of(study_of(TEXT.replace("mlp", "[mlp, small_cnn]")))]
    assert names == ["my-digits-mlp", "my-digits-small_cnn", "my-t-mlp", "my-t-small_cnn"]


def test_what_studies_are_called(study_of, tmp_path):
    """A network of a library keeps the library's name; letters that a study's name may not have leave a digest."""
    text = TEXT.replace("network: mlp", "network: ['torchvision:resnet18', 'timm:resnet18']")
    text = text.replace("[digits, csv:t.csv]", "['folder:.', 'csv:other/дом.csv']")
    study = study_of(text)
    ones = [one.name for one in studies_of(study)]
    assert [name.rpartition("-")[2] for name in ones] == ["torchvision_resnet18", "timm_resnet18"] * 2
    assert len(set(ones)) == 4 and all(re.fullmatch("my-[0-9a-f]{8}-.*", name) for name in ones)


def test_a_list_of_one_is_that_one(study_of):
    study = study_of(TEXT.replace("[digits, csv:t.csv]", "[digits]"))
    assert studies_of(study) == [study] and study.data == "digits"


@pytest.mark.parametrize(("data", "message"), [
    ("[]", "my.yaml: data: the list is empty"), ("[digits, digits]", "my.yaml: data: one is listed twice"),
    ("[digits, 3]", "my.yaml: data: 3 in the list"), ("[digits, [digits]]", r"data: \['digits'\] in the list"),
])  # fmt: skip
def test_what_is_no_list_of_data_sets(study_of, data, message):
    with pytest.raises(InputError, match=message):
        study_of(TEXT.replace("[digits, csv:t.csv]", data))


def test_two_files_of_one_name_are_told_apart_by_the_user(study_of):
    with pytest.raises(InputError, match="both csv:t.csv and csv:other/t.csv would be the study my-t; allowed: files"):
        studies_of(study_of(TEXT.replace("[digits, csv:t.csv]", "[csv:t.csv, csv:other/t.csv]")))


def test_searches_are_not_repeated_over_several(study_of):
    with pytest.raises(InputError, match="searches: 2, with several in data; allowed: searches: 1"):
        study_of(TEXT + "searches: 2\n")


def test_a_cluster_gets_the_files_of_all(study_of, tmp_path):
    study = study_of(TEXT)
    (tmp_path / "packed").mkdir()
    pack(study, tmp_path / "packed")
    assert (tmp_path / "packed" / "work" / "t.csv").read_text() == TABLE
    assert load_study(tmp_path / "packed" / "work" / "my.yaml").several == study.several


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(TEXT)
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path


def test_check_shows_the_plan_of_each(here, losstune):
    ended = losstune("check", "my.yaml")
    assert ended.status == 0
    assert "my-digits: 2 losses on digits with mlp" in ended.out and "my-t: 2 losses on csv:t.csv" in ended.out


def test_a_data_set_that_is_not_there_is_said_before_anything_is_trained(here, losstune):
    ended = losstune("run", "my.yaml", "--set", "data=[digits, csv:none.csv]")
    assert ended.status == 2 and "none.csv" in ended.err and not (here / "runs").exists()


def test_a_study_of_one_data_set_is_not_made_one_of_several(here, losstune):
    begun(here, "my")
    ended = losstune("run", "my.yaml")
    assert ended.status == 2 and "data: my was run with one of each before" in ended.err


# --- a run, interrupted between two studies ---


@pytest.fixture(scope="module")
def several(tmp_path_factory, start):
    """Interrupted as soon as the second study has begun, then run to its end, then run again."""
    ran = Ran(folder_with(tmp_path_factory, "several", my__yaml=TEXT, t__csv=TABLE), start)
    ran.studies = [Ran(ran.folder, start, name) for name in ("my-digits", "my-t")]
    running = ran.begin("--storage", "store")
    running.until(lambda: ledger_path(ran.studies[1].out).is_file())
    running.interrupt()
    ran.at_interruption = running.wait()
    ran.first_before = ran.studies[0].trials()
    ran.done = ran.run().ended
    assert ran.done.status == 0, ran.done
    ran.verdict_before = (ran.report / "verdict.json").stat().st_mtime_ns
    return ran.run()


def test_an_interrupted_run_goes_on_with_the_study_that_was_running(several):
    assert several.at_interruption.status == 130 and several.done.status == 0
    assert several.studies[0].trials() == several.first_before
    assert all((one.report / "report.html").is_file() for one in several.studies)


def test_the_report_is_over_the_data_sets(several):
    verdict = json.loads((several.report / "verdict.json").read_text())
    page = (several.report / "report.html").read_text()
    assert verdict["headline"] in several.done.out
    assert "over 2 data sets" in verdict["headline"]
    assert all(f'href="../../{name}/report/report.html"' in page for name in ("my-digits", "my-t"))


def test_the_report_over_all_is_in_the_storage_too(several):
    """Said once, the storage is known."""
    for name in ("my", "my-digits", "my-t"):
        stored = several.folder / "store" / name / "report" / "report.html"
        assert stored.read_bytes() == (several.folder / "runs" / name / "report" / "report.html").read_bytes()


def test_a_third_run_has_nothing_to_do(several):
    assert several.ended.status == 0 and "done: nothing is left to do" in several.ended.out
    assert (several.report / "verdict.json").stat().st_mtime_ns == several.verdict_before


def test_status_report_and_what_wants_one_study(several, losstune, monkeypatch):
    monkeypatch.chdir(several.folder)
    said = losstune("status", "my")
    assert said.status == 0 and "my-digits" in said.out and "my-t" in said.out and "report over all" in said.out
    assert losstune("report", "my").status == 0
    refused = losstune("export", "my")
    assert refused.status == 2
    assert "my: is made of several studies; allowed here: one of my-digits, my-t" in refused.err
    assert losstune("stop", "my").out.strip() == "nobody is running it"


def test_a_report_over_all_wants_two_that_are_done_and_an_older_one_is_said(several, losstune, monkeypatch):
    monkeypatch.chdir(several.folder)
    path = several.out / "studies.json"
    whole = path.read_text()
    noted = json.loads(whole)
    try:
        path.write_text(json.dumps({**noted, "studies": ["my-digits", "my-t", "my-none"]}))
        assert losstune("report", "my").status == 0
        assert "my-none is not done, and not in this report" in (several.report / "report.html").read_text().lower()
        path.write_text(json.dumps({**noted, "studies": ["my-t", "my-none"]}))
        said = losstune("status", "my").out
        assert "report.html (older than what is recorded)" in said and "my-none  not begun" in said
        refused = losstune("report", "my")
    finally:
        path.write_text(whole)
    assert refused.status == 2 and "my: my-none is not done; needed: at least 2 studies that are" in refused.err
    assert losstune("report", "my").status == 0 and "older" not in losstune("status", "my").out


def test_a_data_set_that_has_begun_is_not_left_out(several, losstune, monkeypatch):
    monkeypatch.chdir(several.folder)
    ended = losstune("run", "my.yaml", "--set", "data=[digits, csv:other.csv]")
    assert ended.status == 2 and "data: my-t has begun and is not listed" in ended.err


def test_a_damaged_note_of_the_studies_is_said_in_a_line(several, losstune, monkeypatch):
    monkeypatch.chdir(several.folder)
    path = several.out / "studies.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    try:
        said = losstune("status", "my")
    finally:
        path.write_bytes(whole)
    assert said.status == 2 and len(said.err.splitlines()) == 1 and "studies.json: damaged" in said.err
