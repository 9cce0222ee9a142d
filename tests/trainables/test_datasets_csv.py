"""Tables in CSV files: which column is what, how they are split, and every way they can be wrong."""

from pathlib import Path

import numpy as np
import pytest

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import load_dataset, locate
from losstune.trainables.datasets.splitting import hold_out_indices

ROWS = "\n".join(f"{n},{n / 8},{'abc'[n % 3]}" for n in range(15))


def load(tmp_path: Path, text: str, name: str = "my.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return load_dataset(f"csv:{name}", None, tmp_path)


@pytest.mark.parametrize("header", ["p,q,label", "p,q,Class", "p,q,TARGET", "p,q,y", "p,q,species"])
def test_a_fifth_is_held_out_always_the_same(tmp_path, header):
    data = load(tmp_path, f"{header}\n{ROWS}\n")
    assert data.name == "csv:my.csv" and data.class_names == ("a", "b", "c") and data.input_shape == (2,)
    train, test = hold_out_indices(np.arange(15) % 3, 0.2, 0)
    assert data.train.x[:, 0].tolist() == train.tolist() and data.test.x[:, 0].tolist() == test.tolist()
    assert data.train.y.tolist() == (train % 3).tolist() and data.test.y.dtype == np.int64
    assert data.train.x.dtype == np.float32 and (data.test.x[:, 1] == test / 8).all()


def test_a_split_column_and_a_label_column_in_any_place(tmp_path):
    data = load(tmp_path, "split,y,x\ntrain,no,1\nTest ,yes,2\ntrain,yes,3\n")
    assert data.train.x.tolist() == [[1], [3]] and data.test.x.tolist() == [[2]]
    assert data.class_names == ("no", "yes") and data.train.y.tolist() == [0, 1] and data.test.y.tolist() == [1]
    last = load(tmp_path, "x,kind,split\n1,a,train\n2,b,train\n3,a,test\n")
    assert last.train.y.tolist() == [0, 1] and last.train.x.tolist() == [[1], [2]]


def test_label_goes_before_the_other_names(tmp_path):
    data = load(tmp_path, "y,label,x,split\n1,a,4,train\n2,b,5,train\n3,a,6,test\n")
    assert data.train.x.tolist() == [[1, 4], [2, 5]]


def test_numbers_as_labels_are_in_their_order_whatever_they_are(tmp_path):
    data = load(tmp_path, "x,quality,split\n1,10,train\n2,9,train\n3,-1,train\n4,9,test\n")
    assert data.class_names == ("-1", "9", "10") and data.train.y.tolist() == [2, 1, 0]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_quotes_and_marks(tmp_path, separator):
    text = f'"x 1"{separator}label\n"1"{separator}a\n\n2{separator}"b, c"\n' + f"3{separator}a\n4{separator}'b, c'\n"
    with pytest.raises(InputError, match="class 'b, c' has one row"):
        load(tmp_path, "\ufeff" + text.replace("\n", "\r\n"))
    rows = "".join(f"1e-3{separator}a\r\n 2{separator}b\r\n" for _ in range(5))
    data = load(tmp_path, f"\ufeffx{separator}label\r\n{rows}")
    assert data.class_names == ("a", "b") and sorted(set(data.train.x[:, 0].tolist())) == [np.float32(1e-3), 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no rows below the header; allowed: a row per example"),
        ("a,b,label\n", "there are no rows below the header"),
        ("1,2,0\n3,4,1\n", r"line 1 is no header \(1,2,0\); allowed: a name for each column"),
        ("a,,label\n1,2,x\n", r"line 1 is no header \(a,,label\)"),
        ("a,a,label\n1,2,x\n", "two columns are named a; allowed: a name of its own for each column"),
        ("label\nx\ny\n", "there is no column of features beside label; allowed: at least one"),
        ("label,split\nx,train\ny,test\n", "there is no column of features beside label"),
        ("a,label\n1,x\n1,2,y\n", "line 3 has 3 fields; allowed: 2, as the header has"),
        ("a,label\n1,x\n\n1\n", "line 4 has 1 fields"),
        ("a,b,label\n1,2,x\n3,four,y\n", "line 3, column b: 'four' is not a number of float32; allowed: finite"),
        ("a,b,label\n1,2,x\n3,,y\n", "line 3, column b: '' is not a number"),
        ("a,b,label\n1,nan,x\n3,4,y\n", "line 2, column b: 'nan' is not a number"),
        ("a,b,label\n1,2,x\n1e60,4,y\n", "line 3, column a: '1e60' is not a number of float32"),
        ("a,label\n1,x\n2, \n", "line 3, column label: the label is missing; allowed: a class for each row"),
        ("a,y,Split\n1,x,train\n2,x,valid\n", "line 3, column Split: 'valid' is not a split; allowed: train, test"),
        ("a,y,split\n1,x,train\n2,z,train\n", "column split has no row of test; allowed: some of train and some of"),
        ("a,y,split\n1,x,test\n2,z,test\n", "column split has no row of train"),
        ("a,y,split\n1,x,train\n2,x,train\n3,z,test\n", "class z has no row of train; allowed: at least one of every"),
        ("a,y,split\n1,x,train\n2,x,test\n", r"column y holds one class \(x\); allowed: at least 2"),
        ("a,y\n1,x\n2,x\n3,z\n", "class z has one row; allowed: at least 3 of every class, or a column split"),
        ("a,y\n" + "\n".join(f"1,{n // 2}" for n in range(20)), "a fifth of 20 rows does not hold every one of 10"),
        ('a,y\n1,"' + "x" * 140_000 + '"\n', "line 2: field larger than field limit .*; allowed: a CSV table"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path, text)
    assert str(error.value).startswith("data: csv:my.csv: ") and "\n" not in str(error.value)


def test_missing_and_other_files(tmp_path):
    with pytest.raises(InputError, match="data: csv:no.csv: there is no file no.csv; allowed: a path relative to the"):
        locate("csv:no.csv", None, tmp_path)
    (tmp_path / "my.csv").write_bytes(b"a,\xff\n")
    with pytest.raises(InputError, match="my.csv cannot be read: .*; allowed: a readable UTF-8 text file"):
        load_dataset("csv:my.csv", None, tmp_path)
