"""The confirm phase: the chosen configuration of every loss, on the same fresh seeds for all."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection

from losstune.search.ledger import read, write
from losstune.search.study import Study

Row = dict[str, Any]


class Confirm:
    """What the conductor knows of the confirm phase."""

    def __init__(self, study: Study, floor: dict[str, dict[str, float]], tx: Connection):
        self.study, self.floor = study, floor
        self.round, self.choices = 0, {}
        self.begin(tx)

    def begin(self, tx: Connection) -> None:
        """Read the choices of the latest round; a loss without one has failed on every seed."""
        self.round = read.latest_round(tx)
        rows = {row["loss"]: row for row in read.all_choices(tx, self.round)}
        chosen = {row["id"]: row for row in read.all_trials(tx, "search")}
        self.choices = {
            loss: (rows[loss], chosen.get(rows[loss]["trial"])) for loss in self.study.spaces if loss in rows
        }
        known = {row["id"] for row in read.all_trials(tx, "confirm")}
        for loss, (_, trial) in self.choices.items():
            for seed in range(self.study.confirm.seeds if trial is None else 0):
                if self._id(loss, seed) not in known:
                    self._add_failed(tx, loss, seed)

    def _add_failed(self, tx: Connection, loss: str, seed: int) -> None:
        write.add_trial(
            tx, **self._row(loss, seed, {}, {}, 0), state="failed", results=self.failed_results(), ended=time.time(),
            reason="no configuration of this loss trained to the end",
        )  # fmt: skip

    def _row(self, loss: str, seed: int, parameters: Row, configuration: Row, epochs: int) -> Row:
        return {
            "id": self._id(loss, seed), "phase": "confirm", "round": self.round, "loss": loss, "number": seed,
            "parameters": parameters, "configuration": configuration, "seeds": [seed], "epochs": epochs,
        }  # fmt: skip

    def _id(self, loss: str, seed: int) -> str:
        return f"confirm{self.round}-{loss}-{seed:04d}"

    def next(self, trials: dict[str, Row]) -> Row | None:
        """The next member to train: seed by seed, all losses, so that a cut leaves pairs."""
        for seed in range(self.study.confirm.seeds):
            for loss, (choice, trial) in self.choices.items():
                if trial is not None and self._id(loss, seed) not in trials:
                    row = self._row(loss, seed, trial["parameters"], trial["configuration"], choice["best_epoch"])
                    return {**row, "state": "running"}
        return None

    def finished(self, trials: dict[str, Row]) -> bool:
        rows = [row for row in trials.values() if row["phase"] == "confirm" and row["round"] == self.round]
        return self.next(trials) is None and not any(row["state"] == "running" for row in rows)

    def failed_results(self) -> dict[str, Any]:
        """What a failed member scores: the constant predictor's metrics."""
        return {"validation": self.floor["validation"], "test": self.floor["test"]}
