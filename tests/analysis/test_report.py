"""The report folder: complete, self-contained, the same bytes every time, and written whole or not at all."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from losstune.analysis.report import write_file, write_report

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Balance(HTMLParser):
    """Checks that every element is closed, and gathers ids and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    assert write_report(results, folder) == folder / "report.html"
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_file_is_there(folder, results):
    names = set(files_of(folder))
    assert {"report.html", "table.csv", "runs.csv", "verdict.json"} <= names
    for figure in ("score", "difference", "learning_curves", "budget_member_epochs", "hyperparameters_softmax"):
        assert {f"figures/{figure}.svg", f"figures/{figure}.pdf"} <= names
    for table in ("results", "baseline", "pairs", "other_metrics", "hyperparameters", "budget"):
        assert {f"tables/{table}.md", f"tables/{table}.tex"} <= names
    assert json.loads((folder / "verdict.json").read_text())["study"] == "digits"
    assert not any(name.startswith(".") for name in names)


def test_page_loads_nothing_from_elsewhere(folder):
    page = (folder / "report.html").read_text()
    bare = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", page)
    assert "http:" not in bare and "https:" not in bare and "//" not in bare.replace("</", "")
    assert not re.search(r"<(script [^>]*src|link|img|iframe|object)\b|\bfetch\(|XMLHttp|@import|url\((?!#)", page)
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_page_is_well_formed_and_links_lead_somewhere(folder):
    page = (folder / "report.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and len(parser.ids) == len(set(parser.ids))
    for target in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page):
        assert (target[0] or target[1]) in parser.ids


def test_page_says_what_it_must(folder):
    parser = Balance()
    parser.feed((folder / "report.html").read_text())
    text = " ".join(parser.text)
    for part in ("No single winner: no loss is shown to beat cosine_softmax", "one family of tests", "paper rule",
                 "variance of the search is unmeasured", "deciding would take", "more than 1.25 times as many",
                 "the loss became NaN in epoch 4", "0f3c2a1"):  # fmt: skip
        assert part in text
    assert "equal." not in text and "are equal" not in text


def test_figures_use_only_colours_that_dark_mode_knows(folder):
    page = (folder / "report.html").read_text()
    body = page[page.index("</style>") :]
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{3,6})", body)) == set()


def test_same_results_give_the_same_bytes(folder, make_results, tmp_path):
    write_report(make_results(), tmp_path)
    assert files_of(tmp_path) == files_of(folder)


@pytest.mark.parametrize("case", ["one loss", "one seed", "lower is better", "nothing confirmed for a loss", "markup"])
def test_unusual_results_still_make_a_page(case, make_results, tmp_path):
    losses = {"softmax": 0.97, "ce_el": 0.96}
    results = make_results(losses={"softmax": 0.97} if case == "one loss" else losses, trials=4,
                           seeds=1 if case == "one seed" else 5, baseline=None)  # fmt: skip
    if case == "lower is better":
        results = dataclasses.replace(results, greater_is_better=False, study={**results.study, "metric": "nll"})
    if case == "nothing confirmed for a loss":
        keep = {name: frame[frame["loss"] != "ce_el"] for name, frame in
                (("members", results.members), ("choices", results.choices))}  # fmt: skip
        results = dataclasses.replace(results, **keep)
    if case == "markup":
        results = dataclasses.replace(results, study={**results.study, "name": "<b>&"}, notes=["a < b & c"])
    page = write_report(results, tmp_path).read_text()
    Balance().feed(page)
    assert "<b>&:" not in page and "a < b" not in page


def test_a_file_is_replaced_whole(tmp_path):
    path = write_file(tmp_path / "deep" / "a.txt", "one")
    with pytest.raises(TypeError):
        write_file(path, 3)
    assert path.read_text() == "one" and [one.name for one in path.parent.iterdir()] == ["a.txt"]


def test_a_loss_whose_curve_lies_outside_the_frame_says_so(make_results, tmp_path):
    losses = {"softmax": 0.97, "sigmoid": 0.96, "dropout": 0.96, "label_smoothing": 0.97}
    for name, far in (("near", {}), ("far", {"squared_error": 0.2})):
        write_report(make_results(losses={**losses, **far}, seeds=3, trials=4, epochs=9), tmp_path / name)
        drawn = (tmp_path / name / "figures" / "learning_curves.svg").read_text()
        assert ("outside the frame" in drawn) == (name == "far")
