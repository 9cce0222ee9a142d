"""The confirm phase: the chosen configuration of every loss, on the same fresh seeds for all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
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
        self.to_ask: deque[tuple[int, str]] = deque()  # seed and loss
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
        # Seed by seed, all losses, so that a cut leaves pairs.
        self.to_ask = deque((seed, loss) for seed in range(self.study.confirm.seeds)
                            for loss, (_, trial) in self.choices.items()
                            if trial is not None and self._id(loss, seed) not in known)  # fmt: skip

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

    @property
    def left(self) -> int:
        """How many members are still to be asked."""
        return len(self.to_ask)

    def next(self) -> Row | None:
        """The next member to train."""
        if not self.to_ask:
            return None
        seed, loss = self.to_ask.popleft()
        choice, trial = self.choices[loss]
        row = self._row(loss, seed, trial["parameters"], trial["configuration"], choice["best_epoch"])
        return {**row, "state": "running"}

    def finished(self, running: Iterable[Row]) -> bool:
        """Whether all is asked, and none of what runs is of this confirm."""
        return not self.to_ask and not any(row["phase"] == "confirm" and row["round"] == self.round for row in running)

    def failed_results(self) -> dict[str, Any]:
        """What a failed member scores: the constant predictor's metrics."""
        return {"validation": self.floor["validation"], "test": self.floor["test"]}
