"""`losstune compare`: files from anywhere, names as they are, one line for what is wrong."""

import io
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from losstune.search import cli
from losstune.search.compare import number, read_scores, show_comparison
from losstune.spaces import InputError


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """compare(text of the file, *options) -> (exit status, stdout, stderr), in a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(text, *options):
        (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["losstune", "compare", "scores.csv", *options])
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


def table(names, seeds=10, gap=0.01):
    x = 0.9 + np.random.default_rng(0).normal(size=(seeds, len(names))) * 0.002 + gap * np.arange(len(names))
    return "\n".join([",".join(names), *(",".join(f"{value:.6f}" for value in row) for row in x)]) + "\n"


def rows_of(out):
    """The lines of the first table."""
    return out[: out.index("best set")].splitlines()


@pytest.mark.parametrize(
    ("text", "options", "part"),
    [
        ("a,b,a\n1,2,3\n2,3,4\n", [], "the column 'a' occurs twice"),
        ("seed,seed,a,b\n1,2,3,4\n2,3,4,5\n", [], "the column 'seed' occurs twice"),
        ("a,,b\n1,2,3\n2,3,4\n", [], "column 2 has no name"),
        ("a,b,\n1,2,\n2,3,\n", [], "column 3 has no name"),
        (",a,b\n0.91,1,2\n0.92,2,3\n", [], "column 1 has no name"),
        ("Unnamed: 0,a,b\n0.91,1,2\n0.92,2,3\n", [], "column 1, 'Unnamed: 0', is no index"),
        ("a,b\n1,2,3\n2,3\n", [], "line 2: 3 values under 2 names"),
        ("0.91,0.92\n0.93,0.94\n0.9,0.8\n", [], "the first row holds numbers only; needed: a header"),
        ("a;b\n1,5;2\n1;3\n", [], "separated by semicolons (';')"),
        ("a\tb\n1\t2\n", [], "separated by tabs"),
        ("a,b\n", [], "no rows"),
        ("", [], "is empty"),
        ("a,b\n1,2\n1,x\n", [], "line 3: column b: 'x' is not a number"),
        ("a,b\n1,2\n1,1_0\n", [], "'1_0' is not a number"),
        ("a,b\n1,2\n1,inf\n", [], "'b' holds an infinite value"),
        ("a,b\n1,2\n1,1e150\n", [], "'b' holds a value whose size is out of bounds"),
        ("a,b\n1,2\n,3\n", [], "'a' has 1 seed"),
        ("a\n1\n2\n", [], "needed: at least 2 columns"),
        ('a,b\n"1,2\n', [], "allowed: a CSV file"),
        ("seed,a,b\n0,1,2\n1,2,3\n0,3,4\n", [], "line 4: column seed: 0 is that of line 2 too; needed: a row per seed"),
        ("Seed,a,b\n0,1,2\n,2,3\n", [], "line 3: column seed: is empty; needed: the seed of each row"),
        ("SEED,seed,a,b\n1,2,3,4\n2,3,4,5\n", [], "the column 'seed' occurs twice"),
        ("run,a,b\n0,.1,.2\n1,.2,.3\n2,.4,.3\n", [], "column 'run' counts rows; allowed: to call it seed, to remove"),
        ("trial,a,b\n1,.1,.2\n2,.2,.3\n", [], "column 'trial' counts rows"),
        ("a,b\n1,2\n1,3\n", ["--alpha", "0"], "--alpha: 0.0 is out of bounds; allowed: (0, 1)"),
        ("a,b\n1,2\n1,3\n", ["--alpha", "1.5"], "--alpha: 1.5 is out of bounds"),
        ("a,b\n1,2\n1,3\n", ["--baseline", "c"], "--baseline: 'c' is not in scores; allowed: a, b"),
    ],
)
def test_what_is_wrong_is_one_line(compare, text, options, part):
    status, out, err = compare(text, *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("losstune: ") and part in err


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.csv").write_bytes("ä,b\n1,2\n".encode("latin-1"))
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "latin.csv"):
        with pytest.raises(InputError, match="allowed: a CSV file"):
            read_scores(path)


def test_the_header_is_read_verbatim(tmp_path):
    path = tmp_path / "scores.csv"

    def read(text):
        path.write_text(text, encoding="utf-8")
        return read_scores(path)

    assert list(read(' a , "b, c",a.1,Unnamed: 3\n1,2,3,4\n')) == ["a", "b, c", "a.1", "Unnamed: 3"]
    assert list(read("\ufeffa,b\n1,2\n")) == ["a", "b"]
    for index in ("", "Unnamed: 0"):
        assert list(read(f"{index},a,b\n0,1,2\n1,2,3\n")) == ["a", "b"]
    labelled = read("a,seed,b\n1,run-1,2\n\n2, run-2 ,\n3,run-3\n")
    assert list(labelled) == ["a", "b"] and list(labelled.index) == ["run-1", "run-2", "run-3"]
    assert labelled["b"].isna().tolist() == [False, True, True]
    assert list(read("SEED,a,b\n1,1,2\n2,2,3\n")) == ["a", "b"]
    assert list(read("a,b\n1.0,2\n2.0,3\n")) == list(read("a,b\n1,2\n3,3\n")) == ["a", "b"]
    assert read("a,b\n1,NaN\nn/a,2\n").isna().to_numpy().tolist() == [[False, True], [True, False]]


def test_names_are_no_markup(compare):
    names = ["[/red]", "ce[alpha=0.1]", "[bold]x[/bold]"]
    status, out, err = compare(table(names), "--baseline", "[/red]")
    assert (status, err) == (0, "")
    assert all(out.count(name) >= 2 for name in names)


def test_the_baseline_has_its_own_table(compare):
    status, out, _ = compare(table(["softmax", "sigmoid", "ce_el"]), "--baseline", "softmax")
    own = out[out.index("against the baseline softmax") : out.index("best set")].splitlines()
    assert status == 0 and "to baseline" in own[1]
    assert [line.split()[0] for line in own[2:]] == ["ce_el", "sigmoid"]
    assert all(line.rstrip().endswith("better") for line in own[2:])
    assert "one family of tests, the pairs with the baseline another" in out
    assert "against the baseline" not in compare(table(["softmax", "sigmoid"]))[1]


def test_only_what_beats_the_baseline_stands_out(tmp_path):
    """The first loss is the worst, the last the best of three; against the middle one."""
    path, shown = tmp_path / "scores.csv", io.StringIO()
    path.write_text(table(["worse", "middle", "good"]))
    show_comparison(path, 0.05, "middle", False, Console(file=shown, force_terminal=True, width=80))
    out = shown.getvalue()
    own = out[out.index("against the baseline middle") : out.index("best set")].splitlines()
    lines = {name: next(line for line in own if name in line) for name in ("worse", "good")}
    assert "better" in lines["good"] and "\x1b[1m" in lines["good"]
    assert lines["worse"].count("worse") == 2 and "\x1b[1m" not in lines["worse"]


def test_an_interval_that_seems_to_contradict_p_is_explained(compare):
    """Holm over 3 pairs of 3 seeds: b is far below, c below a by 0.003, 0.004 and 0.0051, t = 6.65. Of 2 degrees of
    freedom 6.21 is enough for p = 0.05 / 2, Holm's last but one step, and 7.65 for 0.05 / 3, Bonferroni's."""
    scores = "a,b,c\n0.9,0.8,0.897\n0.91,0.81,0.906\n0.92,0.82,0.9149\n"
    _, out, _ = compare(scores)
    said = " ".join(out.split())
    assert "Where p is at most 0.05 and the interval covers zero: the step-down test is sharper" in said
    assert "never varies" in out and "-0.1 to -0.1" not in out
    assert "interval covers zero" not in compare(table(["a", "b", "c"]))[1]


def test_a_missing_cell_leaves_the_other_pairs_paired_and_seeds_are_counted_right(compare):
    lines = table(["a", "b", "c"], seeds=8).splitlines()
    lines[1] = lines[1][lines[1].index(",") :]  # the first cell is empty
    said = " ".join(compare("\n".join(lines))[1].split())
    assert "paired t-tests of the losses that have the same seeds, Welch" in said and "pairs; 7 to 8 seeds" in said
    assert "a row must be the same seed for every loss" in said
    said = " ".join(compare("a,b\n1,2\n2,\n4,3\n")[1].split())
    assert "no two losses have the same seeds" in said and "2 to 3 seeds" in said
    assert "were. " in said + " " and "a row must be the same" not in said


def test_method_warnings_and_condition_are_said(compare):
    _, out, _ = compare(table(["a", "b"], seeds=5))
    for part in ("method: paired t-tests with Holm", "5 seeds", "warning: 5 seeds are too few", "This holds for"):
        assert part in out
    _, out, _ = compare("a,b\n0.9,0.8\n0.8,0.7\n0.7,0.6\n")
    assert "chance alone" in out


@pytest.mark.parametrize("factor", [1, 1e-5, 12345.6, 1e80])
@pytest.mark.parametrize("gaps", [False, True])
def test_tables_fit_80_columns_and_keep_numbers_whole(compare, factor, gaps):
    names = ["large_margin_softmax", "label_smoothing", "a_name_of_a_loss_that_is_quite_a_bit_too_long", "x"]
    header, *lines = table(names).splitlines()
    cells = [[f"{float(cell) * factor:.9g}" for cell in line.split(",")] for line in lines]
    if gaps:
        cells[0][0] = ""
    _, out, err = compare("\n".join([header, *map(",".join, cells)]), "--baseline", "x")
    assert err == "" and max(map(len, rows_of(out))) <= 80
    body = [line for line in rows_of(out) if " to " in line and "best" not in line and "baseline" not in line]
    assert len(body) == 3 + 3
    if factor == 1 and not gaps:
        assert all(any(line.startswith(name) for line in body) for name in names[:2])


def test_lower_is_better(compare):
    _, out, _ = compare(table(["a", "b", "c"]), "--lower-is-better", "--baseline", "c")
    assert [line.split()[0] for line in rows_of(out)[1:4]] == ["a", "b", "c"]
    assert "best set: a (" in out and "-0" not in out.replace("-0.", "")


def test_no_negative_zero_and_no_noise(compare):
    assert [number(value, 3, "+") for value in (-0.0, 0.0, 0.5, -0.25)] == ["0", "0", "+0.5", "-0.25"]
    assert [number(0.90625 + noise, 4) for noise in (-1e-15, 0.0, 1e-15)] == ["0.9062"] * 3
    _, out, _ = compare("a,b,c\n0.9,0.9,0.8\n0.9,0.9,0.8\n0.9,0.9,0.8\n", "--lower-is-better")
    assert "e-17" not in out and " -0 " not in out and "+0 " not in out


def test_nothing_on_stderr(tmp_path):
    """Warnings of numpy's would go there; captured in a process of its own, where none is filtered."""
    files = {
        "two": "a,b\n1,2\n1,3\n", "constant": "a,b,c\n1,1,2\n1,1,2\n1,1,2\n",
        "large": "a,b\n1e99,2\n-1e99,1e-99\n0,3\n",
        "gaps": "a,b\n1,2\n2,\n,4\n3,3\n", "rising": "a,b\n" + "".join(f"{k + 2},{k + 3}\n" for k in range(9)),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    code = "import sys\nfrom losstune.search import cli\nfor name in sys.argv[1:]:\n" \
           "    sys.argv = ['losstune', 'compare', name, '--baseline', 'a']\n" \
           "    try: cli.main()\n    except SystemExit as end: assert not end.code, name"  # fmt: skip
    paths = [str(tmp_path / f"{name}.csv") for name in files]
    command = [sys.executable, "-W", "always::RuntimeWarning", "-c", code, *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
