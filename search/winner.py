"""The winner for use: winner.yaml beside the report, with the confirmed weights it names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from losstune.analysis.results import Results
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta
from losstune.search.ledger.files import first_members
from losstune.search.locations import files_of
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.storage import Place, files_in

Row = dict[str, Any]

_USE = """\
# The loss with the best mean of the study, at its confirmed configuration, and the weights of its first seed: not of
# the luckiest one, so that what to expect of them is the mean in the table. To use them:
#
#     import numpy as np
#     from losstune import load_model
#
#     model = load_model("{path}")
#     x = np.load("my_images.npy")          # {shape}
#     logits = model.logits(x)              # (N, {classes})
#     classes = model.predict(x)            # (N,) whole numbers
#     names = [model.class_names[k] for k in classes]
#     probabilities = model.probabilities(x)  # (N, {classes}); None where the loss defines none
#
# To train with it in a loop of your own:
#
#     from losstune import make_head
#     head = make_head("{loss}", in_features=..., num_classes={classes}{hyperparameters})
"""


def write_winner(results: Results, folder: Path, ledger: Ledger) -> Path:
    """Write report/winner.yaml and report/winner.pt, and drop the weights that nothing names any more.

    Of every loss the weights of its first seed that did not fail stay, under weights/.
    """
    ended = set(results.members.loc[results.members["state"] == "complete", "loss"])
    means = results.score_matrix().mean()
    loss = max((name for name in means.index if name in ended), key=means.get, default=None)
    path = folder / "report" / "winner.yaml"
    if loss is None:
        path.unlink(missing_ok=True)
        return path
    with ledger.reading() as tx:
        rows, round_ = read.all_trials(tx, "confirm"), read.latest_round(tx)
        # Of losses that were taken out too: they may come back.
        firsts, complete = first_members(rows, round_), first_members(rows, round_, ("complete",))
        sources, recipe = get_meta(tx, "identity")["sources"], get_meta(tx, "identity")["recipe"]
    row = complete[loss]
    stored = files_of(folder)
    if firsts[loss] is not row and not _path(stored, row).is_file():  # of the first seed's there will be some again
        path.unlink(missing_ok=True)
        return path
    weights = _weights(stored, row)
    write_bytes(path.with_suffix(".pt"), weights)
    fields = {
        "study": results.study["name"], "loss": loss, "configuration": row["configuration"], "epochs": row["epochs"],
        "full_length": results.study["epochs"], "recipe": recipe, "seed": row["number"],
        "metric": results.metric, "mean": float(results.members.groupby("loss")[results.metric].mean()[loss]),
        "network": results.study["network"], "input_shape": results.study["input_shape"],
        "class_names": results.study["class_names"],
        "weights": path.with_suffix(".pt").name, "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "network_source": sources.get("network"),
    }  # fmt: skip
    write_bytes(path, (_use(fields, path) + yaml.safe_dump(fields, sort_keys=False, width=120)).encode())
    _drop_other_weights(stored, {f"{row['id']}.pt" for row in (*firsts.values(), *complete.values())})
    return path


def _weights(folder: Place, row: Row) -> bytes:
    """A member's weights as they were confirmed; InputError when they are missing or altered."""
    path, digest = _path(folder, row), (row["files"] or {}).get("weights")
    content = path.read_bytes() if path.is_file() else None
    if content is None or (digest is not None and hashlib.sha256(content).hexdigest() != digest):
        raise InputError(f"{path}: {'missing' if content is None else 'not what was written'}; allowed: after "
                         f"`losstune doctor {folder.name}` the next run trains this member again")  # fmt: skip
    return content


def _path(folder: Place, row: Row) -> Place:
    return folder / "weights" / f"{row['id']}.pt"


def _drop_other_weights(folder: Place, keep: set[str]) -> None:
    for path, _ in list(files_in(folder / "weights")):
        if path.name.endswith(".pt") and path.name not in keep:
            path.unlink()


def _use(fields: dict, path: Path) -> str:
    own = {k: v for k, v in fields["configuration"].items() if k not in ("learning_rate", "weight_decay")}
    return _USE.format(
        path=path, shape="(N, " + ", ".join(map(str, fields["input_shape"])) + "), as the data set's",
        classes=len(fields["class_names"]), loss=fields["loss"],
        hyperparameters="".join(f", {name}={value!r}" for name, value in own.items()),
    )  # fmt: skip
