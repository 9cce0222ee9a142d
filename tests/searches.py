"""Results of searches that are small enough to check by hand."""

import pandas as pd

from losstune.analysis.results import Results

NO_CHOICES = ["loss", "number", "params", "best_epoch", "score"]


def searched(losses, method="tpe", metric="accuracy", greater=True, fresh=None, params=None, **about):
    """Results of a search. losses: name -> [(state, score, member-epochs), ...] in order of number; fresh: name ->
    validation scores of the confirmed seeds, None for a failed one."""
    trials = [
        {"loss": loss, "number": number, "state": state, "score": score, "epochs": 9, "best_epoch": 9,
         "member_epochs": spent, "slot_seconds": float(spent), "reason": "",
         "params": {"learning_rate": 0.1} if params is None else params[loss]}
        for loss, rows in losses.items() for number, (state, score, spent) in enumerate(rows)
    ]  # fmt: skip
    members = [
        {"loss": loss, "seed": seed, "state": "failed" if score is None else "complete", "reason": "", "epochs": 9,
         metric: 0.5, f"validation_{metric}": 0.1 if score is None else score}
        for loss, scores in (fresh or {}).items() for seed, score in enumerate(scores)
    ]  # fmt: skip
    sign, choices = 1 if greater else -1, []
    for loss in losses if fresh else ():
        full = [t for t in trials if t["loss"] == loss and t["state"] == "complete"]
        choices += [max(full, key=lambda t: (sign * t["score"], -t["number"]))] if full else []
    budget = [{"loss": loss, "phase": "search", "asked": len(rows), "member_epochs": sum(row[2] for row in rows),
               "slot_seconds": 1.0} for loss, rows in losses.items()]  # fmt: skip
    study = {"name": "s", "metric": metric, "baseline": None, "losses": list(losses),
             "search": {"method": method, "seeds": 4, "trials": 4}, "confirm": {"seeds": 4, "train_on": "train"},
             **about}  # fmt: skip
    none = ["loss", "seed", "state", "reason", "epochs", metric]
    return Results(
        study=study, greater_is_better=greater, members=pd.DataFrame(members, columns=None if members else none),
        trials=pd.DataFrame(trials), curves=pd.DataFrame(), budget=pd.DataFrame(budget),
        choices=pd.DataFrame(choices, columns=None if choices else NO_CHOICES),
    )  # fmt: skip


def done(*scores):
    """Full-length trials of ten member-epochs each."""
    return [("complete", score, 10) for score in scores]
