"""A folder where a study is run by the command line, and what its ledger and files say of it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from losstune.search.job import make_job
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta
from losstune.search.locations import ledger_at, ledger_path
from losstune.search.plan import make_plan
from losstune.search.study import load_study
from losstune.spaces import InputError
from losstune.trainables import predictions
from losstune.trainables.backends import Choice
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.trial import Trial


def folder_with(tmp_path_factory, name: str, **files: str) -> Path:
    """A folder with my.yaml and other files."""
    folder = tmp_path_factory.mktemp(name)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    return folder


def begun(folder: Path, *names: str) -> None:
    """Studies that have ledgers in a folder's runs/, as far as it is asked whether there are any."""
    for name in names:
        ledger_path(folder / "runs" / name).parent.mkdir(parents=True)
        ledger_path(folder / "runs" / name).touch()


class Ran:
    """A folder where my.yaml is run, and how its last run ended."""

    def __init__(self, folder: Path, start, study: str = "my.yaml"):
        self.folder, self.study, self._start, self.ended = folder, study, start, None

    def begin(self, *arguments: object):
        return self._start(self.folder, "run", self.study, *arguments)

    def run(self, *arguments: object) -> Ran:
        self.ended = self.begin(*arguments).wait()
        return self

    @property
    def out(self) -> Path:
        return self.folder / "runs" / Path(self.study).stem

    @property
    def report(self) -> Path:
        return self.out / "report"

    def read(self, what, *arguments) -> list[dict]:
        """From the ledger, which may not be there yet."""
        try:
            ledger = Ledger.open(ledger_at(self.out))
        except InputError:
            return []
        try:
            with ledger.reading() as tx:
                return what(tx, *arguments)
        finally:
            ledger.close()

    def trials(self, phase: str | None = None, **of) -> list[dict]:
        return [row for row in self.read(read.all_trials, phase) if of.items() <= row.items()]

    def curve(self, trial: str) -> list[dict]:
        """What is recorded of a trial's epochs, as it was reported."""
        reports = [report for report in self.read(read.all_reports) if report["trial"] == trial]
        return [epoch for report in reports for epoch in report["curve"]]

    def backend(self, job) -> Choice:
        """What the run measured: another backend may round differently."""
        return Choice(**self.read(get_meta, f"backend on {job.kind_of('cpu')}")["choice"])

    def members(self) -> pd.DataFrame:
        return pd.read_csv(self.report / "runs.csv")

    def predictions(self, trial: str) -> predictions.Predictions:
        return predictions.read(self.out / "predictions" / f"{trial}.npz")

    def files(self, folder: str = "report") -> dict[str, str]:
        """Every file below a folder of the output, by its digest."""
        root = self.out / folder
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(root.rglob("*")) if path.is_file()}  # fmt: skip


def retrained(ran: Ran, *changes: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The validation and test logits of every confirmed member, trained here and now without interruption.

    From the ledger only the chosen configurations and epochs are taken.
    """
    study = load_study(ran.folder / ran.study, changes)
    plan = make_plan(study)
    with one_thread():
        normalization, train = Normalization(plan.train.x), plan.train
        if study.confirm.train_on == "all":
            train = Split(*(np.concatenate([getattr(plan.train, a), getattr(plan.validation, a)]) for a in "xy"))
        job = make_job(plan, ran.folder / "unused")
        inputs = {name: Inputs(split, normalization, "cpu") for name, split in
                  (("validation", plan.validation), ("test", plan.test))}  # fmt: skip
        backend = ran.backend(job)
        return dict(_members(ran, study, lambda: job.stack(train, plan.validation, normalization, backend), inputs))


@contextlib.contextmanager
def one_thread():
    """As a lane of one core computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _members(ran: Ran, study, new_stack, inputs: dict):
    chosen = {row["id"]: row for row in ran.trials("search")}
    for choice in ran.read(read.all_choices):
        if choice["trial"] is None:
            continue
        values = dict(chosen[choice["trial"]]["configuration"])
        rates = values.pop("learning_rate"), values.pop("weight_decay")
        for seed in range(study.confirm.seeds):
            stack = new_stack()
            trial = Trial("t", choice["loss"], values, *rates, "confirm", (seed,), choice["best_epoch"])
            stack.join(trial)
            for _ in range(trial.epochs):
                stack.train_epoch()
            logits = [stack.logits("t", inputs[name])[0] for name in ("validation", "test")]
            yield f"confirm{choice['round']}-{choice['loss']}-{seed:04d}", tuple(logits)


def assert_as_retrained(ran: Ran, *changes: str) -> None:
    """Every stored prediction is, bit for bit, that of a member trained alone and undisturbed."""
    expected = retrained(ran, *changes)
    assert sorted(expected) == sorted(path.stem for path in (ran.out / "predictions").glob("*.npz"))
    for trial, (validation, test) in expected.items():
        stored = ran.predictions(trial)
        assert np.array_equal(stored.validation_logits, validation), trial
        assert np.array_equal(stored.test_logits, test), trial
