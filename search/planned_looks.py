"""The looks that a study plans at its results, as a plan each; a run takes one after another."""

from __future__ import annotations

from dataclasses import replace

from losstune.search.ledger import read
from losstune.search.ledger.database import Ledger, get_meta
from losstune.search.plan import Plan
from losstune.search.provenance import about
from losstune.search.standing import standing


def stages_of(plan: Plan) -> list[Plan]:
    """The plan of each look, one after another."""
    study = plan.study
    if not study.confirm.looks:
        return [plan]
    return [replace(plan, study=study.up_to(seeds)) for seeds in study.confirm.stages]


def next_stage(stages: list[Plan], ledger: Ledger) -> int:
    """The look to begin with: the last one that has its seeds, for its report; if it has that too, the one after it."""
    if len(stages) == 1:
        return 0
    greater = stages[0].metric.greater_is_better
    ended = [at for at, stage in enumerate(stages) if standing(stage.study, ledger, greater).phase == "done"]
    if not ended or ended[-1] == len(stages) - 1:
        return ended[-1] if ended else 0
    with ledger.reading() as tx:
        made_of, round_ = get_meta(tx, "report_of") or {}, read.latest_round(tx)
    reported = made_of.get("study") == about(stages[ended[-1]]) and made_of.get("round") == round_
    return ended[-1] + (reported and not has_enough(ledger))


def has_enough(ledger: Ledger) -> bool:
    """Whether the last report separates every pair, so that no further planned look is needed."""
    with ledger.reading() as tx:
        return bool(get_meta(tx, "enough"))
