"""The report over several studies: complete, self-contained, the numbers that it shows, and unusual studies."""

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from losstune.analysis import drawing
from losstune.analysis.joint import join, joint_verdict
from losstune.analysis.joint_report import write_joint_report
from losstune.spaces import InputError

VOID = {"meta", "br", "hr", "img", "input", "link"}
RANKED = {"softmax": [0.90, 0.80, 0.70], "sigmoid": [0.92, 0.80, 0.60], "ce_el": [0.94, 0.82, 0.74]}
MODES = ("wilcoxon_holm", "conover_bh", "nemenyi")


class Page(HTMLParser):
    """Checks that every element is closed, and gathers ids, links and text."""

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.links, self.said = [], [], [], []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.said).split())
        assert self.open == [] and len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


@pytest.fixture(scope="module")
def study(make_results):
    """study(name, losses, ...): results whose confirmed accuracies are those of losses in every seed, but for noise."""

    def make(name, losses, data=None, seeds=2, noise=0.0, **changed):
        results = make_results(losses={loss: 0.9 for loss in losses}, seeds=seeds, trials=1, epochs=1)
        members = results.members.copy()
        shift = noise * np.resize([1, -1], seeds)
        for loss, accuracy in losses.items():
            members.loc[members["loss"] == loss, "accuracy"] = accuracy + shift
        described = {**results.study, "name": name, "data": data or name, **changed}
        return dataclasses.replace(results, study=described, members=members)

    return make


@pytest.fixture(scope="module")
def three(study):
    return [study(f"set{k}", {loss: means[k] for loss, means in RANKED.items()}, noise=0.01) for k in range(3)]


@pytest.fixture(scope="module")
def nine(study):
    """a is best on every set, then b; c and d take turns."""
    return [study(f"set{k}", {"softmax": 0.9 - k / 100, "sigmoid": 0.88 - k / 97, "ce_el": 0.8 + (-1) ** k / (300 + k),
                              "dropout": 0.8}, noise=0.001) for k in range(9)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(nine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    pages = [f"../../set{k}/report/report.html" for k in range(8)] + [None]
    assert write_joint_report(nine, folder, pages) == folder / "report.html"
    return folder


@pytest.fixture
def no_pdf(monkeypatch):
    """PDFs take half of the time; those of `folder` are real."""
    monkeypatch.setattr(drawing, "to_pdf", lambda figure: b"")


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cells(folder, table):
    with open(folder / "tables" / f"{table}.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_is_there_and_the_same_bytes_again(folder, nine, tmp_path):
    figures = [f"critical_difference_{mode}" for mode in MODES] + ["performance_profile", "score_distribution"]
    tables = ["ranks", "pairs", "stability", "means", "studies"]
    assert set(files_of(folder)) == {
        "report.html", "verdict.json", *(f"figures/{name}.{kind}" for name in figures for kind in ("svg", "pdf")),
        *(f"tables/{name}.{kind}" for name in tables for kind in ("csv", "md", "tex")),
    }  # fmt: skip
    assert json.loads((folder / "verdict.json").read_text()) == joint_verdict(join(nine))
    pages = [f"../../set{k}/report/report.html" for k in range(8)] + [None]
    write_joint_report(nine, tmp_path, pages)
    assert files_of(tmp_path) == files_of(folder)


def test_page_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(folder):
    text, page = (folder / "report.html").read_text(), Page(folder / "report.html")
    bare = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", text)
    assert "http:" not in bare and "https:" not in bare
    assert not re.search(r"<(script [^>]*src|link|img|iframe|object)\b|\bfetch\(|XMLHttp|@import|url\((?!#)", text)
    assert not re.search(r"(?:fill|stroke): #[0-9a-f]{3,6}", text[text.index("</style>") :])
    within = [link[1:] for link in page.links if link.startswith("#")]
    assert {"verdict", "ranks", "term-average-rank", "term-iqm", "term-paper-mode"} <= set(within) <= set(page.ids)
    others = [link for link in page.links if not link.startswith("#")]
    assert others == [f"../../set{k}/report/report.html" for k in range(8)]
    assert "No report yet: set8." in page.text


def test_page_says_what_it_must(folder):
    page, verdict = Page(folder / "report.html"), json.loads((folder / "verdict.json").read_text())
    for part in ("separates some equal ones in 17% to 27% of diagrams", "the verdict does not rest on them",
                 "Paper mode: Friedman's test, then Nemenyi's", "9 data sets", "one search per study",
                 "softmax wins: it is shown to beat every other loss over 9 data sets"):  # fmt: skip
        assert part in page.text
    assert all(text in page.text for text in verdict["sentences"])
    for term in ("average rank", "Friedman's test", "critical difference", "performance profile", "score distribution",
                 "IQM", "Wilcoxon's signed-rank test"):  # fmt: skip
        assert f"term-{re.sub('[^a-z]+', '-', term.lower())}" in page.ids
    assert "term-ece" not in page.ids and "term-slot-second" not in page.ids


def test_numbers_of_the_table_by_hand(three, no_pdf, tmp_path):
    """Ranks on three sets: ce_el 1, 1, 1; sigmoid 2, 2.5, 3; softmax 3, 2.5, 2."""
    write_joint_report(three, tmp_path)
    rows = {row["loss"]: row for row in cells(tmp_path, "ranks")}
    assert list(rows) == ["ce_el", "softmax", "sigmoid"]
    assert [row["average rank"] for row in rows.values()] == ["1.00", "2.50", "2.50"]
    assert [row["wins"] for row in rows.values()] == ["3", "0", "0"]
    # (94 + 82 + 74) / 3, (90 + 80 + 70) / 3 and (92 + 80 + 60) / 3.
    assert [row["mean accuracy (%)"] for row in rows.values()] == ["83.33", "80.00", "77.33"]
    assert [row["to softmax (points)"] for row in rows.values()] == ["+3.33", "", "−2.67"]
    # Of the six runs 89, 91, 79, 81, 69, 71 one (a quarter, rounded down) goes from each end: 320 / 4.
    assert rows["softmax"]["IQM (%)"] == "80.00"
    low, high = map(float, rows["softmax"]["IQM interval"].split(" to "))
    assert 79 <= low < 80 < high <= 81
    pairs = {(row["better rank"], row["worse rank"]): row for row in cells(tmp_path, "pairs")}
    assert pairs["softmax", "sigmoid"]["better / equal / worse"] == "1 / 1 / 1"
    # Three sets, all in favour: p = 2 / 2^3, times three pairs, is .75.
    assert pairs["ce_el", "softmax"]["p"] == "0.750" and pairs["ce_el", "softmax"]["finding"] == "not separated"
    assert [row["set1"] for row in cells(tmp_path, "means")] == ["82.00", "80.00", "80.00"]
    assert "3 blocks cannot separate anything" in Page(tmp_path / "report.html").text
    assert "No pair of losses is separated." in Page(tmp_path / "report.html").text


def test_pairs_and_stability_say_what_the_verdict_says(folder):
    verdict = json.loads((folder / "verdict.json").read_text())
    found = [row["finding"] for row in cells(folder, "pairs")]
    separated = [pair for pair in verdict["pairs"] if pair["wilcoxon_holm"]]
    assert found == ["separated"] * 5 + ["not separated"] and len(separated) == 5
    stability = cells(folder, "stability")
    assert len(stability) == 2 * 6
    papers = {(row["paper mode"], frozenset((row["loss"], row["other loss"]))): row for row in stability}
    for pair in verdict["pairs"]:
        for name, mode in (("Conover-BH", "conover_bh"), ("Nemenyi", "nemenyi")):
            row = papers[name, frozenset((pair["loss_a"], pair["loss_b"]))]
            assert (row["finding"] == "separated") == pair[mode]
            assert row["its p"] == ("< 0.001" if pair[f"p_{mode}"] < 0.001 else f"{pair[f'p_{mode}']:.3f}")
    turned = [bool(row["changes_without"]) for row in verdict["stability"]]
    assert [row["turned over without"] != "nothing" for row in stability] == sorted(turned, reverse=True)
    assert any(turned) and not all(turned)


@pytest.fixture(scope="module")
def pair(study):
    """pair(losses, ...): two studies, one and two, with the same scores."""
    return lambda losses, names=("one", "two"), **about: [study(name, losses, **about) for name in names]


def test_one_data_set_is_not_tested(pair, no_pdf, tmp_path):
    studies = pair({"softmax": 0.9, "sigmoid": 0.92}, data="digits")
    studies[0].members.loc[0, "state"] = "failed"
    page = Page(write_joint_report(studies, tmp_path))
    assert "nothing can be said about other data sets" in page.text and "Nothing is tested over" in page.text
    assert not {"diagram", "pairs", "paper-modes", "profile"} & set(page.ids) and "distribution" in page.ids
    assert not {"tables/pairs.csv", "figures/performance_profile.svg"} & set(files_of(tmp_path))
    assert "1 confirmed runs of one failed" in page.text and cells(tmp_path, "studies")[0]["failed"] == "1"
    assert "own report" not in page.text and "No report yet" not in page.text


def test_two_losses_and_names_with_markup(pair, no_pdf, tmp_path):
    page = Page(write_joint_report(pair({"softmax": 0.9, "sigmoid": 0.92}, names=("<b>&", "two")), tmp_path,
                                   ["a b/report.html"]))  # fmt: skip
    assert "Friedman's test is not made for two losses" in page.text
    assert "<b>&" in page.text and "a%20b/report.html" in page.links


@pytest.mark.parametrize("sign", [1, -1])
def test_a_metric_of_ones_own_with_one_seed(sign, pair, no_pdf, tmp_path):
    """A cost, where lower is better, and a score below zero: it has no ratios."""
    studies = [dataclasses.replace(one, greater_is_better=sign < 0, study={**one.study, "metric": "own"},
                                   members=one.members.assign(own=sign * one.members["accuracy"]))
               for one in pair({"softmax": 0.9, "sigmoid": 0.92, "ce_el": 0.9}, seeds=1, baseline=None)]  # fmt: skip
    page = Page(write_joint_report(studies, tmp_path))
    best, _, last = cells(tmp_path, "ranks")
    value = {1: "0.9000", -1: "−0.9000"}[sign]
    assert (best["mean own"], best["IQM"], best["IQM interval"]) == (value, value, "")
    assert last["loss"] == "sigmoid" and last["to softmax"] == "−0.0200"
    assert ("profile" in page.ids) == ("figures/performance_profile.svg" in files_of(tmp_path)) == (sign > 0)


def test_scores_that_are_all_equal(pair, no_pdf, tmp_path):
    page = Page(write_joint_report(pair({"softmax": 0.9, "sigmoid": 0.9, "ce_el": 0.9}), tmp_path))
    assert "No winner" in page.text and "diagram" in page.ids and "distribution" not in page.ids
    assert [row["wins"] for row in cells(tmp_path, "ranks")] == ["2 (2 shared)"] * 3


def test_what_cannot_be_joined_writes_nothing(study, tmp_path):
    one = study("one", {"softmax": 0.9, "sigmoid": 0.8})
    for other in (one, study("two", {"softmax": 0.9, "ce_el": 0.8})):
        with pytest.raises(InputError):
            write_joint_report([one, other], tmp_path / "joint")
    assert not (tmp_path / "joint").exists()
