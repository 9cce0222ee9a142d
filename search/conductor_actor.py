"""The conductor as an actor of Ray. Lanes, which hold its handle, import this too: hence almost nothing."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losstune.spaces import StudyStopped
from losstune.trainables.disk import disk_trouble

if TYPE_CHECKING:
    from losstune.search.ledger.postgresql import Server


def collect_seldom() -> None:
    """Have Python look for cycles of what nobody uses, of which a conductor makes few, seldom.

    With ten thousand trials in memory it goes through a million objects each time, for a third of a report's cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


class ConductorActor:
    """The conductor in a process of its own, with the ledger opened there under this run's generation."""

    def __init__(self, at: Path | Server, generation: int, study: Any, *others: Any):
        from losstune.search.conductor import Conductor
        from losstune.search.ledger.database import Ledger

        self.failed: str | None = None  # why there is no conductor, if so
        try:
            self.conductor = Conductor(study, Ledger(at, generation), *others)
            collect_seldom()
        except Exception as error:  # to be told by broken: what an actor dies of in its constructor nobody can ask it
            self.failed = disk_trouble(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of the conductor. Once one has raised, memory and ledger may differ, and nothing goes on."""
        if self.failed:
            raise StudyStopped(self.failed)
        if self.conductor.broken:
            raise StudyStopped(self.conductor.broken)
        try:
            return getattr(self.conductor, method)(*arguments)
        except Exception as error:
            self.conductor.broken = disk_trouble(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise

    def broken(self) -> str | None:
        """Why the study cannot go on, if so. Asked every few seconds, it also looks at the machines.

        Ray knows of one that is suddenly gone only some seconds after the lanes that were on it. One that is to go is
        drained: a cloud's notice, or the autoscaler, has told Ray.
        """
        if self.failed:
            return self.failed
        if self.conductor.broken is None:
            with contextlib.suppress(Exception):  # it is noted as what has broken the conductor
                self._settle()
                self._look_for_draining()
        return self.conductor.broken

    def _settle(self) -> None:
        if self.conductor.blame.unsettled:
            import ray

            dead = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
            for node in {one[0] for one in self.conductor.blame.unsettled} & dead:
                self.call("node_lost", node)
        if self.conductor.blame.doubtful:
            self.call("settle")

    def _look_for_draining(self) -> None:
        from ray._private.state import state

        nodes = set(state.get_draining_nodes())
        if nodes != self.conductor.draining:
            self.call("drain", nodes)

    def over(self) -> bool:
        return self.failed is None and self.conductor.over()
