"""`losstune new`: a commented study file for one's own data."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from losstune.search.plan import data_root
from losstune.spaces import SPACES, InputError
from losstune.trainables.architectures import check_architecture
from losstune.trainables.datasets import DATASETS, FORMATS, load_dataset
from losstune.trainables.network import Network
from losstune.trainables.user_files import read_text, split_reference

_ABOUT_FOLDERS = "      # where images differ in size, ?size=N behind the folder has them stored N x N"
_TEMPLATE = """\
# Which loss for {what}? Run it with:
#
#   losstune check {file}           what it will do; --measure says how long it takes
#   losstune run {file}             again continues where it stopped

data: {data}{about_data}
network: {network}              # losstune architectures lists them; or torchvision:NAME, timm:NAME, my_net.py:build
metric: {metric}             # or balanced_accuracy, macro_f1, auroc, cost:costs.csv, my_metric.py:score
baseline: softmax           # what the gains are measured against

split: {{validation: 0.15, seed: 0}}      # held out of the training data; tuning sees nothing else

losses: [{losses}]

recipe:
  epochs: 27                # full length
  batch_size: {batch_size}
  augmentation: {augmentation}      # for images: crop_flip, cifar_autoaugment, imagenet ..., or a list of operations
  class_weights: none       # or balanced, or a list with one weight per class
  tune: [learning_rate, weight_decay]

search:
  method: tpe               # or random, grid, coarse_to_fine
  trials: 16                # configurations per loss
  seeds: 3                  # each trained with so many seeds
  halving: {{first: 3, factor: 3}}        # at 3 and 9 epochs the best third of a loss goes on

# searches: 5               # all of it so many times, each with a split of its own: measures the search's variance too

confirm:
  seeds: 10                 # fresh ones, the same for every loss; only these meet the test set

# record:                   # more of what the report measures of the confirmed networks
#   curves: 5               # after every fifth epoch: neural collapse, class separation, margin bias
#   corruptions: true       # of images: the test set with noise, blur, JPEG ... at five severities
#   shifted: {{dusk: npz:dusk.npz}}         # further test sets with the same classes
#   transfer: [npz:other.npz]             # data sets of any classes, to which the features are transferred
"""


def new_study(data: str, network: str | None) -> Path:
    """Write NAME.yaml in the current directory for a data set: an .npz or .csv file, a folder of images or of .npy
    files, my_data.py:load, or what a study's `data` may be.

    Raises InputError when the data cannot be used, the network does not fit or the file exists.
    """
    spec = _spec(data)
    dataset = load_dataset(spec, data_root(), Path.cwd())
    images = len(dataset.input_shape) == 3
    network = network or ("small_cnn" if images and min(dataset.input_shape[1:]) >= 16 else "mlp")
    check_architecture(network, dataset.input_shape)
    path = Path(f"{_stem(spec)}.yaml")
    if path.exists():
        raise InputError(f"{path}: exists already; allowed: a name that is free (move it away first)")
    counts = f"{len(dataset.train):,} + {len(dataset.test):,} examples, {dataset.num_classes} classes"
    losses = usable_losses(network, dataset.input_shape, dataset.num_classes)
    path.write_text(_TEMPLATE.format(
        what=f"{spec} ({counts})", file=path, data=spec, network=network,
        metric="accuracy", losses=_wrapped(losses), batch_size=128 if len(dataset.train) > 20_000 else 64,
        augmentation="none", about_data=_ABOUT_FOLDERS if spec.startswith("folder:") else "",
    ), encoding="utf-8")  # fmt: skip
    return path


def usable_losses(network: str, input_shape: tuple[int, ...], num_classes: int) -> list[str]:
    """The losses to compare: those that deep networks train with and that the network's features are enough for."""
    reference = split_reference(network)
    source = read_text(reference[0], Path.cwd(), "network") if reference else None
    _, in_features = Network(network, input_shape, num_classes, source=source).build()
    return [name for name, space in SPACES.items() if not space.known_to_fail
            and (space.least_features is None or space.least_features(num_classes) <= in_features)]  # fmt: skip


def _spec(data: str) -> str:
    """What a study's `data` says for a file, a folder, or what is such a thing already."""
    path = Path(data.partition("?")[0])
    if data in DATASETS or data.partition(":")[0] in FORMATS or split_reference(data):
        return data
    if path.suffix in (".npz", ".csv"):
        return f"{path.suffix[1:]}:{data}"
    if path.is_dir():
        return f"npy:{data}" if (path / "x_train.npy").is_file() else f"folder:{data}"
    raise InputError(f"{data}: not data that a study can be made for; allowed: FILE.npz, FILE.csv, a folder with train "
                     f"and test or val or with .npy files, FILE.py:FUNCTION, {', '.join(DATASETS)}")  # fmt: skip


def _stem(spec: str) -> str:
    """A study's name for its data: of letters that a name may have."""
    prefix, _, name = spec.partition(":")
    reference = split_reference(spec)
    path = Path(reference[0] if reference else name.partition("?")[0] if prefix in FORMATS else spec)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", path.resolve().stem).strip("-._") or "study"


def _wrapped(names: list[str]) -> str:
    """Names in lines of a study file."""
    return textwrap.fill(", ".join(names), 100, break_long_words=False).replace("\n", "\n         ")
