"""What a run writes of itself into the ledger: the study, its identity, with what and on which machine it runs."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from importlib.metadata import version
from typing import Any

from losstune.search.ledger import read, write
from losstune.search.ledger.database import Ledger, get_meta, set_meta
from losstune.search.plan import Plan, identity, sizes_of
from losstune.spaces import space_of


def about(plan: Plan) -> dict[str, Any]:
    """The study as the analysis wants it."""
    study, sizes = plan.study, sizes_of(plan)
    return {
        "name": study.name, "data": study.data, "network": study.network, "metric": study.metric,
        "greater_is_better": plan.metric.greater_is_better, "baseline": study.declared_baseline,
        "losses": list(study.spaces), "passes": {loss: space_of(loss).passes for loss in study.spaces},
        "epochs": study.recipe.epochs, "search": study.search.model_dump(mode="json"),
        "confirm": study.confirm.model_dump(mode="json"), "num_classes": sizes.num_classes,
        "class_names": list(plan.class_names), "input_shape": list(sizes.input_shape),
        "n_train": sizes.n_train, "n_validation": sizes.n_validation, "n_test": sizes.n_test,
    }  # fmt: skip


def record(plan: Plan, ledger: Ledger) -> None:
    """What this run is of and with, and what it changes; identity keeps every loss that ever was in the study."""
    with ledger.transaction() as tx:
        before, now = get_meta(tx, "study"), about(plan)
        unplanned = _unplanned(before and before["confirm"], now["confirm"], _has_looked(tx))
        if unplanned:
            write.add_event(tx, "seeds", unplanned)
        known = (get_meta(tx, "identity") or {}).get("losses", {})
        current = identity(plan)
        set_meta(tx, "identity", {**current, "losses": {**known, **current["losses"]}})
        set_meta(tx, "study", now)
        set_meta(tx, "fields", {"fields": plan.study.fields, "folder": str(plan.study.folder)})
        set_meta(tx, "facts", {**(get_meta(tx, "facts") or {}), **_facts(plan)})
        write.add_event(tx, "run", f"run on {platform.node()}")


def _has_looked(tx: Any) -> bool:
    """Whether a test score of the latest confirm is known."""
    if not read.all_choices(tx):
        return False
    round_ = read.latest_round(tx)
    # `status` shows the test scores of every member as it ends: one is enough to have looked.
    return any(row["results"] and row["round"] == round_ for row in read.all_trials(tx, "confirm"))


def _unplanned(before: dict[str, Any] | None, now: dict[str, Any], looked: bool) -> str | None:
    """What makes the next look at the results one that was not planned, if anything does.

    before, now: the study's confirm as it was recorded, if it was, and as it is to be. looked: whether results have
    been seen.
    """
    looks, seeds = now["looks"], now["seeds"]
    had, were = ((before.get("looks") or []), before["seeds"]) if before else (looks, None)
    if looked and had != looks:
        return f"planned looks changed: {had or [were]} to {looks or [seeds]}"
    if looks and seeds not in looks and seeds != were:
        return f"seeds added: to {seeds}, which is none of the planned looks"
    if looked and not looks and were < seeds:
        return f"seeds added: {were} to {seeds}"
    return None


def _facts(plan: Plan) -> dict[str, Any]:
    packages = ("losstune", "torch", "ray", "optuna", "mlflow", "numpy")
    return {
        "data_digest": plan.digest, "git_commit": _git_commit(), "python": platform.python_version(),
        "versions": {name: version(name) for name in packages}, "machine": platform.machine(),
    }  # fmt: skip


def _git_commit() -> str | None:
    """The commit of the current directory, where there is one."""
    command = ["git", "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    return None
