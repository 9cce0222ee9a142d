"""Data sets of the table: the embedded one, and those that torchvision reads from the user's data root."""

import gzip
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from losstune.spaces.errors import InputError
from losstune.trainables.datasets import DATASETS, load_dataset, locate

FASHION = Path(__file__).parents[3] / "shared" / "data" / "fashion-mnist"

# --- the table ---


def test_importing_and_loading_digits_needs_neither_torch_nor_pillow():
    code = (
        "import sys\n"
        "from losstune.trainables.datasets import load_dataset\n"
        "load_dataset('digits', None, '.')\n"
        "print('torch' in sys.modules, 'PIL' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == ["False", "False"]


def test_digits_are_scikit_learns_with_a_stratified_fifth_as_test_split():
    from sklearn.datasets import load_digits

    digits, original = load_dataset("digits", None, Path()), load_digits()
    assert (len(digits.train), len(digits.test), digits.input_shape) == (1437, 360, (1, 8, 8))
    assert digits.num_classes == 10 and digits.class_names == tuple("0123456789")
    assert digits.train.x.dtype == np.uint8 and digits.train.y.dtype == np.int64
    both = np.vstack([np.column_stack([s.x.reshape(-1, 64), s.y]) for s in (digits.train, digits.test)])
    expected = np.column_stack([original.data, original.target])
    assert (both[np.lexsort(both.T)] == expected[np.lexsort(expected.T)]).all()
    shares = np.bincount(digits.test.y) / np.bincount(original.target)
    assert np.abs(shares - 0.2).max() < 0.005


def test_digits_are_read_by_scikit_learn_where_its_file_has_moved(monkeypatch):
    digest = load_dataset("digits", None, Path()).digest()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert load_dataset("digits", None, Path()).digest() == digest


def test_the_digest_is_the_datas():
    digits = load_dataset("digits", None, Path())
    # A change here is a change of the default data set: results are not comparable across it.
    assert digits.digest() == "30fd328d6d4a994ae48d472c50328ce4137d611e1b819ab3fc8884fa43296bf6"
    digits.test.x[0, 0, 0, 0] += 1
    assert digits.digest() != load_dataset("digits", None, Path()).digest()


@pytest.mark.parametrize("name", DATASETS)
def test_sizes_are_known_without_reading(name):
    sizes = DATASETS[name].sizes
    assert sizes.num_classes in (10, 100) and len(sizes.input_shape) == 3 and DATASETS[name].licence


# --- torchvision ---


@pytest.fixture(scope="module")
def fashion_root(tmp_path_factory) -> Path:
    if not FASHION.is_dir():
        pytest.skip(f"the real Fashion-MNIST is not at {FASHION}")
    root = tmp_path_factory.mktemp("root")
    (root / "FashionMNIST" / "raw").mkdir(parents=True)
    for packed in FASHION.glob("*.gz"):
        with gzip.open(packed) as source, open(root / "FashionMNIST" / "raw" / packed.stem, "wb") as target:
            shutil.copyfileobj(source, target)
    return root


def test_fashion_mnist(fashion_root):
    data, sizes = load_dataset("fashion_mnist", str(fashion_root), Path()), DATASETS["fashion_mnist"].sizes
    assert (len(data.train), len(data.test)) == (sizes.n_train, sizes.n_test) == (60_000, 10_000)
    assert data.train.x.shape == (60_000, *sizes.input_shape) and data.train.x.dtype == np.uint8
    assert data.class_names[0] == "T-shirt/top" and data.num_classes == 10
    assert np.bincount(data.train.y).tolist() == [6000] * 10 and data.test.y[:4].tolist() == [9, 2, 1, 1]
    assert data.train.x.mean() == pytest.approx(72.94, abs=0.01)


def test_damaged_files_are_named(fashion_root, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DATASETS["fashion_mnist"].files:
        (tmp_path / file).write_bytes(b"\0" * 20)
    with pytest.raises(InputError, match="data: fashion_mnist: torchvision cannot read the files under"):
        load_dataset("fashion_mnist", str(tmp_path), Path())


@pytest.mark.parametrize(("name", "key", "classes"), [("cifar10", "labels", 10), ("cifar100", "fine_labels", 100)])
def test_cifar_in_torchvisions_layout(monkeypatch, tmp_path, name, key, classes):
    """Small files in the published layout; torchvision's checksums, which only the real files pass, are set aside."""
    files = [tmp_path / file for file in DATASETS[name].files]
    files[0].parent.mkdir()
    for file in files:
        pixels = np.arange(classes * 3072, dtype=np.int64).reshape(classes, 3072) % 251
        content = {"data": pixels.astype(np.uint8), key: list(range(classes))}
        if "meta" in file.name:
            names = [f"class {k}" for k in range(classes)]
            content = {"label_names": names, "fine_label_names": names}
        file.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=f"data: {name}: torchvision cannot read .*allowed: the published, unchanged"):
        load_dataset(name, str(tmp_path), Path())
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = load_dataset(name, str(tmp_path), Path())
    assert data.num_classes == classes and data.class_names[3] == "class 3"
    assert data.test.x.shape == (classes, 3, 32, 32) and data.test.y.tolist() == list(range(classes))
    assert data.test.x.flags.c_contiguous and (data.test.x.reshape(classes, -1)[1] == np.arange(3072, 6144) % 251).all()


def test_a_missing_data_root_says_what_to_set(tmp_path):
    with pytest.raises(InputError, match="data: fashion_mnist: no data root is named; set LOSSTUNE_DATA") as error:
        locate("fashion_mnist", None, tmp_path)
    assert "FashionMNIST/raw/train-images-idx3-ubyte" in str(error.value) and "--data-root" in str(error.value)
    with pytest.raises(InputError, match="data: cifar10: the data root .* lacks cifar-10-batches-py/data_batch_1, "):
        locate("cifar10", str(tmp_path / "nowhere"), tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DATASETS["fashion_mnist"].files[1:]:
        (tmp_path / file).touch()
    with pytest.raises(InputError, match="lacks FashionMNIST/raw/train-images-idx3-ubyte; set"):
        load_dataset("fashion_mnist", str(tmp_path), tmp_path)


def test_torchvisions_older_layout_is_found(tmp_path):
    (tmp_path / "FashionMNIST" / "processed").mkdir(parents=True)
    for file in DATASETS["fashion_mnist"].legacy_files:
        (tmp_path / file).touch()
    assert locate("fashion_mnist", str(tmp_path), Path()) == tmp_path


def test_unknown_names_list_what_exists():
    with pytest.raises(InputError, match="unknown data set 'mnist'; allowed: digits, fashion_mnist, cifar10, cif"):
        locate("mnist", None, Path())
