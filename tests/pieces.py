"""A study in a folder that is run piece by piece: real training and conductor in one process, without Ray."""

import contextlib
from itertools import count
from pathlib import Path

from losstune.search.conductor import Conductor
from losstune.search.job import make_job
from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger
from losstune.search.plan import make_plan
from losstune.search.provenance import record
from losstune.search.study import load_study
from losstune.trainables.lane import Lane

NAMES = count()


class Direct:
    """A lane's exchange with a conductor in the same process."""

    def __init__(self, conductor):
        self.conductor = conductor

    def send(self, message):
        self.message = message

    def answer(self, seconds):
        return self.conductor.exchange(self.message)


class Pieces:
    """The study of a text, in a new folder, whose output is `out`."""

    def __init__(self, folder: Path, text: str):
        folder.mkdir()
        (folder / "my.yaml").write_text(text)
        self.out, self.plan = folder / "runs", make_plan(load_study(folder / "my.yaml"))
        scorer = make_job(self.plan, self.out).scorer
        self.floor = {name: scorer.floor(self.plan.train.y, split)
                      for name, split in (("validation", self.plan.validation), ("test", self.plan.test))}  # fmt: skip

    @contextlib.contextmanager
    def conductor(self):
        """A fresh one, as a run of the study has it."""
        with contextlib.closing(Ledger.create_or_open(self.out / "ledger" / "ledger.db")) as ledger:
            record(self.plan, ledger)
            yield Conductor(self.plan.study, ledger, self.floor, True, self.plan.test)

    def lane(self, conductor: Conductor) -> Lane:
        """A fresh one, in the place of the last one."""
        lane = Lane(make_job(self.plan, self.out), self.plan.train, self.plan.validation, Direct(conductor),
                    f"lane-{next(NAMES)}", alone=True)  # fmt: skip
        conductor.register("slot", lane.id, 0.0, "cpu")
        return lane

    def read(self, what):
        with contextlib.closing(Ledger.open(self.out / "ledger" / "ledger.db")) as ledger, ledger.reading() as tx:
            return what(tx)

    def epochs(self) -> list[tuple[str, dict]]:
        """(trial, what is recorded of an epoch of it), in the order in which it was reported."""
        return [(report["trial"], epoch) for report in self.read(read.all_reports) for epoch in report["curve"]]
