"""How far confirmed members' fixed features serve other data sets, and their own again. Exploratory.

`transfer.transfer_table` of what was recorded: of each data set training examples, of which it holds 20% out for the
choice of lambda, and test examples. The study's own data are among them: "relearned weights".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from losstune.analysis.results import Results
from losstune.analysis.transfer import Labelled, Splits, transfer_table
from losstune.trainables.transferred import Transferred

KEY = ("loss", "seed", "data", "digest")
PROBE_COLUMNS = (*KEY, "accuracy", "penalty", "at_end", "converged", "n_train", "reason")


@dataclass(frozen=True)
class MeasuredTransfer:
    """probes: a row per loss, seed and data set: PROBE_COLUMNS, as of `transfer_table`, and the digest of the features;
    a failed member, which has none, counts as who always gives the most frequent class of training. n_test: test
    examples, by data set.
    left_out: members, or data sets of members, that are not in it and why, a sentence each.
    """

    probes: pd.DataFrame
    n_test: dict[str, int]
    left_out: list[str] = field(default_factory=list)


def measure_transfer(results: Results, known: pd.DataFrame | None = None) -> MeasuredTransfer | None:
    """Learn a classifier on every member's features of every data set; None where none were recorded.

    known: probes of an earlier call, which are not fitted again where the features have the same digest: each takes
    about a second at a thousand examples. One member is in memory at a time.
    """
    seen: dict[str, _Seen] = {}
    left_out: list[str] = []
    kept = {} if known is None else {tuple(row[name] for name in KEY): row for row in known.to_dict("records")}
    rows = [kept.get(tuple(part[:4])) or _fitted(*part) for part in _parts(results, seen, left_out)]
    if not rows:
        return None
    left_out += [f"{row['loss']}, seed {row['seed']}: {row['data']}: {row['reason']}" for row in rows if row["reason"]]
    return MeasuredTransfer(pd.DataFrame(rows + _failed_rows(results, seen)),
                            {name: own.n_test for name, own in seen.items()}, left_out)  # fmt: skip


def _fitted(loss: str, seed: int, name: str, digest: str, own: Transferred) -> dict[str, Any]:
    splits = Splits(*(Labelled(part.features.astype(np.float64), part.targets) for part in (own.train, own.test)))
    # The products of a fit are small: among threads it takes ten times as long where others use the cores too.
    with threadpool_limits(1, user_api="blas"):
        return {**transfer_table([(loss, seed, name, splits)]).iloc[0].to_dict(), "digest": digest}


def _failed_rows(results: Results, seen: dict[str, _Seen]) -> list[dict[str, Any]]:
    failed = results.members[results.members["state"] == "failed"]
    models = list(failed[["loss", "seed"]].itertuples(index=False, name=None))
    return [{"loss": loss, "seed": seed, "data": name, "accuracy": own.constant, "penalty": np.nan, "at_end": "",
             "converged": True, "n_train": own.n_train, "reason": "", "digest": ""}
            for loss, seed in models for name, own in seen.items()]  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What the first member that has it shows of a data set. constant: accuracy of the most frequent class."""

    digest: str
    n_train: int
    n_test: int
    constant: float


def _parts(results: Results, seen: dict[str, _Seen], left_out: list[str]
           ) -> Iterator[tuple[str, int, str, str, Transferred]]:  # fmt: skip
    """Loss, seed, data set, digest of the features, and these, of every member that has them of the same data."""
    for (loss, seed), record in results.readable(results.transfer, left_out):
        for name, own in record.items():
            constant = float(np.mean(own.test.targets == np.bincount(own.train.targets).argmax()))
            about = _Seen(own.digest, len(own.train.targets), len(own.test.targets), constant)
            if seen.setdefault(name, about) == about:
                yield loss, seed, name, _digest(own), own
            else:
                left_out.append(f"{loss}, seed {seed}: its features are of another {name} than those of others")


def _digest(own: Transferred) -> str:
    found = hashlib.sha256()
    for part in (own.train, own.test):
        for array in (part.features, part.targets):
            found.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
