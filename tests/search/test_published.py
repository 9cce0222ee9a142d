"""`losstune compare` on published numbers: the papers' tables, one line for what is wrong."""

import re
import sys

import pytest

from losstune.search import cli
from losstune.search.published import is_published, read_published

# Kornblith et al. 2021, Table 1, ImageNet top-1, eight runs each.
KORNBLITH = """loss,mean,standard_error,n
softmax,77.0,0.06,8
squared_error,77.2,0.04,8
dropout,77.5,0.04,8
label_smoothing,77.6,0.03,8
final_layer_l2,77.7,0.03,8
logit_penalty,77.7,0.02,8
logit_norm,77.8,0.02,8
cosine_softmax,77.9,0.02,8
sigmoid,77.9,0.05,8
"""
# Battash et al. 2021, Table 5: six networks on three data sets.
BATTASH = "data,network,loss,mean\n" + "".join(
    f"{data},{network},{loss},{mean}\n"
    for data, network, means in [
        ("CIFAR100", "ResNet110", ["70.16", "70.24", "71.36"]), ("CIFAR100", "PreAct", ["74.18", "74.57", "75.43"]),
        ("CIFAR100", "ResNeXt29", ["75.88", "76.59", "77.60"]), ("Tiny INet", "ResNet50", ["60.61", "61.67", "60.80"]),
        ("Tiny INet", "ResNet101", ["61.77", "63.12", "62.65"]), ("ImageNet", "ResNet50", ["75.74", "76.35", "75.60"]),
    ]
    for loss, mean in zip(["CE", "Ours", "COT"], means, strict=True)
)  # fmt: skip
TWO = "loss,mean,standard_error,n\na,{},{},{}\nb,2,1,3\n"


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path):
    """compare(text of the file, *options) -> (exit status, stdout with single blanks, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(text, *options):
        (tmp_path / "p.csv").write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["losstune", "compare", "p.csv", *options])
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, re.sub(r"\s+", " ", captured.out), captured.err

    return call


def test_kornblith_table_1(compare):
    """The paper prints logit_norm in bold too, which the numbers behind the printed ones may bear out."""
    status, out, err = compare(KORNBLITH, "--baseline", "softmax")
    assert (status, err) == (0, "")
    assert "best set: cosine_softmax, sigmoid (no other loss is shown to beat them" in out
    assert ("prints in bold: cosine_softmax, sigmoid warning: of logit_norm, final_layer_l2 and logit_penalty rounding "
            "alone may have decided") in out  # fmt: skip
    assert "logit_norm 8 77.8 0.02 -0.1 " in out and "squared_error (+0.2, p " in out
    assert "unpaired Welch t-tests with Holm's adjustment over 36 pairs" in out
    assert "cannot be paired" in out and "with a correlation of 0.8 over seeds" in out


def test_a_pair_by_hand(compare):
    """t = 1 / sqrt(2 * 0.1^2) = 7.07 with 4 degrees of freedom: p 0.0021; standard deviations are errors times sqrt 3.
    """
    _, out, _ = compare("loss,mean,standard_error,n\na,3.0,0.1,3\nb,2.0,0.1,3\n")
    assert "b 3 2 0.1 -1 0.00211" in out and "best set: a (" in out
    _, other, _ = compare("loss,mean,std,n\na,3.0,0.173205,3\nb,2.0,0.173205,3\n")
    assert "b 3 2 0.1 -1 0.00211" in other
    _, lower, _ = compare("loss,mean,standard_error,n\na,3.0,0.1,3\nb,2.0,0.1,3\n", "--lower-is-better")
    assert "a 3 3 0.1 +1 0.00211" in lower and "best set: b (" in lower


def test_battash_table_5(compare):
    """Their networks are three data sets: the paper's test separates CE, and over data sets nothing can be."""
    status, out, err = compare(BATTASH, "--baseline", "CE")
    assert (status, err) == (0, "")
    assert "over 6 tables of 3 data sets: loss average rank wins mean to CE Ours 1.50 3 70.423 +0.7 COT 1.67 3" in out
    assert "best set: Ours, COT, CE (" in out and "separates Ours from CE and COT from CE" in out
    assert "3 blocks cannot separate anything" in out


def test_networks_on_one_data_set_are_not_tested(compare):
    _, out, _ = compare("data,network,loss,mean\nI,r,a,1\nI,r,b,2\nI,s,a,1\nI,s,b,3\n")
    assert "all tables are of I: nothing can be said about other data sets" in out
    assert "2 blocks use the data set I: they are not independent" in out and "best set" not in out


def test_tables_with_errors_are_compared_one_by_one_too(compare):
    rows = "".join(f"{data},{loss},{mean},0.1,5\n" for data, loss, mean in
                   [("A", "x", 1), ("A", "y", 2), ("B", "x", 1.0), ("B", "y", 1.1)])  # fmt: skip
    _, out, _ = compare("data,loss,mean,standard_error,n\n" + rows)
    assert out.count("best set: y (") == 1 and out.count("best set: y, x (") == 2 and "over 2 tables of 2" in out


def test_average_ranks(compare):
    """Demsar 2006, section 3.2.2: chi2 9.28, F 3.69; 1.25 is the critical difference of four over 14."""
    text = "loss,average_rank,n\nC4.5,3.143,14\nC4.5+m,2.000,14\nC4.5+cf,2.893,14\nC4.5+m+cf,1.964,14\n"
    _, out, _ = compare(text)
    assert "chi2 9.28" in out and "F 3.69" in out and "the critical difference is 1.25: it separates nothing" in out
    _, out, _ = compare(text.replace("3.143", "3.443").replace("2.893", "2.593"))
    assert "it separates C4.5 from C4.5+m+cf" in out


def test_errors_printed_as_zero_are_pointed_out(compare):
    _, out, _ = compare(TWO.format(1, 0, 3))
    assert "the error of a is printed as 0" in out


def test_steps_are_of_the_longest_number_of_a_table(compare, tmp_path):
    """Another table of the same file, printed with more digits, says nothing of how far this one is rounded."""
    path = tmp_path / "p.csv"
    path.write_text("data,loss,mean,standard_error,n\nd,a,77,0.1,8\nd,b,77.25,0.06,8\ne,a,77,1,8\ne,b,78,2,8\n")
    assert is_published(path) and read_published(path).steps == {"d": (0.01, 0.01), "e": (1.0, 1.0)}
    rows = KORNBLITH.splitlines()
    both = "\n".join([f"data,{rows[0]}", *(f"ImageNet,{row}" for row in rows[1:]),
                      *(f"other,{row.replace(',8', '0,8')}" for row in rows[1:])])  # fmt: skip
    assert "of logit_norm, final_layer_l2 and logit_penalty rounding alone" in compare(both + "\n")[1]


def test_average_ranks_have_no_baseline(compare):
    status, out, err = compare("loss,average_rank,n\na,1.2,10\nb,1.8,10\n", "--baseline", "a")
    assert (status, out) == (2, "") and "--baseline: p.csv has average ranks" in err
    assert compare("loss,average_rank,n\na,1.2,10\nb,1.8,10\n", "--lower-is-better")[0] == 2



@pytest.mark.parametrize(
    ("text", "part"),
    [
        (TWO.format(1, 1, 1), "line 2: column n: 1 is out of bounds; allowed: whole numbers from 2 on"),
        (TWO.format(1, 1, 2.5), "column n: 2.5 is out of bounds"),
        (TWO.format(1, -0.1, 3), "column standard_error: -0.1 is out of bounds; allowed: 0 or more"),
        (TWO.format("x", 1, 3), "line 2: column mean: 'x' is not a number"),
        (TWO.format("nan", 1, 3), "column mean: 'nan' is not a number; needed: a finite one"),
        (TWO.format(1, "", 3), "column standard_error: '' is not a number"),
        ("loss,mean,standard_error,n\na,1,1\nb,2,1,3\n", "line 2: 3 values under 4 names"),
        ("loss,mean,standard_error,std,n\na,1,1,1,3\nb,2,1,1,3\n", "standard_error and std; allowed: one of them"),
        ("loss,mean,standard_error\na,1,1\nb,2,1\n", "errors without n"),
        ("loss,mean,n\na,1,3\nb,2,3\n", "n without errors"),
        ("loss,mean\na,1\nb,2\n", "means alone, of one table, allow no test"),
        ("loss,mean,sem,n\na,1,1,3\nb,2,1,3\n", "the column 'sem' is unknown"),
        ("loss,mean,mean\na,1,1\nb,2,1\n", "the column 'mean' occurs twice"),
        ("loss,mean,std,n\na,1,1,3\na,2,1,3\n", "line 3: a has a row already"),
        ("data,loss,mean\nA,a,1\nA,a,2\n", "a has a row already of A"),
        ("loss,mean,std,n\na,1,1,3\n", "1 loss; needed: at least 2"),
        ("loss,mean,std,n\n", "no rows below the header"),
        ("loss,mean,std,n\n,1,1,3\nb,1,1,3\n", "column loss: is empty"),
        ("network,loss,mean\nr,a,1\nr,b,1\n", "networks without the column data"),
        ("data,loss,mean\nA,a,1\nA,b,1\nB,a,1\nB,c,1\n", "the tables: no block has every loss"),
        ("loss,average_rank\na,1\nb,2\n", "average ranks without n"),
        ("loss,average_rank,n\na,1,9\nb,2,8\nc,3,9\n", "column n: [8, 9] differ"),
        ("loss,average_rank,n\na,1,9\nb,1,9\nc,2,9\n", "they sum to 4; with ties averaged"),
    ],
)
def test_what_is_wrong_is_one_line(compare, text, part):
    status, out, err = compare(text)
    assert (status, out, err.count("\n")) == (2, "", 1), (out, err)
    assert err.startswith("losstune: ") and part in err, err


def test_options_that_do_not_fit(compare):
    assert "--baseline: 'c' is not in p.csv" in compare(KORNBLITH, "--baseline", "c")[2]
    assert "--alpha: 1.5 is out of bounds" in compare(KORNBLITH, "--alpha", "1.5")[2]


def test_tables_of_one_data_set_are_not_tested_over_data_sets(compare):
    rows = "".join(f"d,n{k},a,{k}\nd,n{k},b,{k + 1}\nd,n{k},c,{k + 2}\n" for k in range(3))
    status, out, _ = compare("data,network,loss,mean\n" + rows)
    assert status == 0 and "nothing can be said about other data sets" in out and "Wilcoxon" not in out
    assert "3 blocks use the data set d: they are not independent" in out


def test_losses_may_be_called_mean(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("a,mean\n1,2\n2,3\n")
    assert not is_published(path)
