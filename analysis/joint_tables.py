"""The tables over several studies, as text."""

from __future__ import annotations

from losstune.analysis.joint import Joint
from losstune.analysis.ranking import DEFAULT
from losstune.analysis.results import difference_unit, head, metric_name, show, show_p
from losstune.analysis.tabletext import Table

SHORT = {"conover_bh": "Conover-BH", "nemenyi": "Nemenyi"}


def joint_tables(joint: Joint, verdict: dict) -> list[Table]:
    """Those that there is something to say in; verdict: `joint_verdict`'s."""
    tables = [ranks_table(verdict), studies_table(verdict), means_table(joint, verdict)]
    if verdict["pairs"]:
        tables += [pairs_table(verdict), stability_table(verdict)]
    return tables


def ranks_table(verdict: dict) -> Table:
    """Average rank, wins, mean, difference to the baseline and IQM: the main table."""
    metric, sets = verdict["metric"], len(verdict["datasets"])
    iqm = {row["loss"]: row for row in verdict["iqm"]}
    rows = []
    for row in verdict["table"]:
        own, shared = iqm[row["loss"]], f" ({row['ties']} shared)" if row["ties"] else ""
        itself = row["loss"] == _reference(verdict)
        rows.append([row["loss"], f"{row['average_rank']:.2f}", f"{row['wins']}{shared}", show(row["mean"], metric),
                     "" if itself else show(row["mean_difference"], metric, sign=True), show(own["iqm"], metric),
                     _range(own, metric)])  # fmt: skip
    columns = ["loss", "average rank", "wins", f"mean {head(metric)}", f"to {_reference(verdict)}{_unit(metric)}",
               f"IQM{' (%)' * head(metric).endswith('(%)')}", "IQM interval"]  # fmt: skip
    caption = f"Each loss over {sets} data set{'s' * (sets > 1)}, by the mean test {metric_name(metric)} over seeds. "
    caption += "Differences: positive is better. " * (not verdict["greater_is_better"])
    caption += "Bold: in the best set." if verdict["best_set"] else "Nothing is tested over a single data set."
    return Table("ranks", caption, columns, rows, _best(verdict))


def _reference(verdict: dict) -> str:
    """The loss that mean differences are to."""
    return verdict["baseline"] or verdict["table"][0]["loss"]


def _unit(metric: str) -> str:
    return f" ({difference_unit(metric).strip()})" if difference_unit(metric) else ""


def _range(row: dict, metric: str) -> str:
    """The bootstrap interval of an IQM; blank where a study has one seed."""
    if row["ci_low"] is None or row["ci_high"] is None:
        return ""
    return f"{show(row['ci_low'], metric)} to {show(row['ci_high'], metric)}"


def _best(verdict: dict) -> frozenset[int]:
    return frozenset(place for place, row in enumerate(verdict["table"]) if row["loss"] in verdict["best_set"])


def studies_table(verdict: dict) -> Table:
    """What was joined."""
    rows = [[row["block"], _data(row), row["network"], str(row["seeds"]), str(row["failed"] or "")]
            for row in verdict["studies"]]  # fmt: skip
    columns = ["study", "data", "network", "seeds", "failed"]
    if not any(row["failed"] for row in verdict["studies"]):
        columns, rows = columns[:-1], [cells[:-1] for cells in rows]
    caption = "The studies that are joined; seeds: the fewest that any of the losses has."
    return Table("studies", caption, columns, rows, text=frozenset({0, 1, 2}))


def _data(row: dict) -> str:
    """The name of a study's data, and that of its data set in this report where it is another."""
    return row["data"] if row["data"] == row["dataset"] else f"{row['data']}, counted as {row['dataset']}"


def means_table(joint: Joint, verdict: dict) -> Table:
    """The mean over seeds of each loss in each study, losses in the order of their average ranks."""
    means = joint.direction * joint.means
    rows = [[row["loss"], *(show(mean, joint.metric) for mean in means[row["loss"]])] for row in verdict["table"]]
    caption = f"Mean test {head(joint.metric)} over seeds, a column per study. Bold: in the best set over data sets."
    if not verdict["best_set"]:
        caption = caption.partition(" Bold")[0]
    return Table("means", caption, ["loss", *means.index], rows, _best(verdict), bold_columns=frozenset({0}))


def pairs_table(verdict: dict) -> Table:
    """All pairs of losses, those that the default test separates first."""
    metric, rows = verdict["metric"], []
    pairs = sorted(verdict["pairs"], key=lambda pair: not pair[DEFAULT])
    for pair in pairs:
        counts = f"{pair['a_better']} / {pair['equal']} / {pair['b_better']}"
        # The signed ranks may favour the loss with the worse average rank.
        found = "separated" if pair["better"] == pair["loss_a"] else f"separated: {pair['better']} is better"
        rows.append([pair["loss_a"], pair["loss_b"], f"{pair['rank_difference']:.2f}", counts,
                     show(pair["mean_difference"], metric, sign=True), show_p(pair[f"p_{DEFAULT}"]),
                     found if pair[DEFAULT] else "not separated"])  # fmt: skip
    columns = ["better rank", "worse rank", "rank difference", "better / equal / worse",
               f"difference{_unit(metric)}", "p", "finding"]  # fmt: skip
    caption = "All pairs of losses by Wilcoxon's signed-rank test over data sets, p adjusted by Holm. Bold: separated."
    bold = frozenset(place for place, pair in enumerate(pairs) if pair[DEFAULT])
    return Table("pairs", caption, columns, rows, bold, frozenset({0, 1, 6}), frozenset({0, 1, 6}))


def stability_table(verdict: dict) -> Table:
    """What the paper modes say of each pair, and which other losses it hangs on; what would turn over first."""
    found = sorted(verdict["stability"], key=lambda row: not row["changes_without"])
    p = {(frozenset((pair["loss_a"], pair["loss_b"])), mode): pair[f"p_{mode}"]
         for pair in verdict["pairs"] for mode in SHORT}  # fmt: skip
    rows = [[row["loss_a"], row["loss_b"], SHORT[row["mode"]], show_p(p[frozenset((row["loss_a"], row["loss_b"])),
             row["mode"]]), "separated" if row["separated"] else "not separated",
             ", ".join(row["changes_without"]) or "nothing"] for row in found]  # fmt: skip
    caption = ("What the paper modes say of each pair, and the other losses each of which would turn it over by its "
               "absence. Bold: there are some. The default test looks at the two losses alone; others matter only "
               "through Holm's adjustment.")  # fmt: skip
    bold = frozenset(place for place, row in enumerate(found) if row["changes_without"])
    columns = ["loss", "other loss", "paper mode", "its p", "finding", "turned over without"]
    return Table("stability", caption, columns, rows, bold, frozenset({0, 1, 2, 4, 5}), frozenset({0, 1, 5}))
