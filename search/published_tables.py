"""What can be said from published numbers, on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

from losstune.analysis import ranking, summaries
from losstune.analysis.wording import listed
from losstune.search.compare import number, print_table
from losstune.spaces import InputError

if TYPE_CHECKING:
    from losstune.search.published import Published

MOST_NAMED = 6  # pairs in a sentence
CORRELATIONS = (0.5, 0.8)  # over seeds, had there been pairs
CONDITIONAL_ON = ("This holds for the numbers as printed, of those runs: on their test set, at their configurations. "
                  "Whether losses were tuned alike, and test data met once, the numbers do not show.")  # fmt: skip


def show_block(
    found: Published, block: str, alpha: float, baseline: str | None, lower_is_better: bool, console: Console
) -> None:
    """Print a row per loss of one table, best first, and what can be said of it."""
    sign, rows = -1 if lower_is_better else 1, found.blocks[block]
    errors = {"standard_errors" if found.error == "standard_error" else "standard_deviations": rows["error"]}
    table = summaries.summary(sign * rows["mean"], rows["n"], **errors).sort_values("mean", ascending=False,
                                                                                     kind="stable")  # fmt: skip
    # The step of a standard error, where standard deviations are printed; rather too wide where n differs.
    mean_step, error_step = found.steps[block]
    error_step /= 1 if found.error == "standard_error" else np.sqrt(rows["n"].min())
    bold = summaries.paper_bold(table, mean_step, error_step)
    pairs = summaries.compare_summaries(table, alpha, None, mean_step, error_step)
    best = ~table.index.isin(pairs.loc[pairs["separated"], "loss_b"])
    if block:
        console.print(Text(f"{block}:", style="bold"))
    print_table(_rows(table, pairs, bold, sign), pd.Series(best), console)
    say = [f"best set: {', '.join(table.index[best])} (no other loss is shown to beat them, at {alpha:g} over all "
           "pairs)"]  # fmt: skip
    say += _about_baseline(table, alpha, baseline, sign)
    for line in [*say, *_about_rounding(pairs), *_about_bold(bold), *_about_test(table, len(pairs), alpha)]:
        console.print(Text(line))
    console.print(Text(CONDITIONAL_ON + "\n" * (len(found.blocks) > 1)))


def _rows(table: pd.DataFrame, pairs: pd.DataFrame, bold: pd.DataFrame, sign: int) -> list[list[str]]:
    """Heads, then a row per loss."""
    rows, top = [["loss", "n", "mean", "s.e.", "to best", "p", "paper's rule"]], table.index[0]
    against = pairs[pairs["loss_a"] == top].set_index("loss_b")
    for loss, row in table.iterrows():
        to_best = ["", ""] if loss == top else [number(-sign * against.loc[loss, "difference"], 3, "+"),
                                                number(against.loc[loss, "p_holm"], 3)]  # fmt: skip
        rule = ("bold" if bold.loc[loss, "bold"] else "") + " (rounding)" * (not bold.loc[loss, "settled"])
        rows.append([str(loss), f"{row['n']:.0f}", number(sign * row["mean"], 5),
                     number(row["sd"] / np.sqrt(row["n"]), 2), *to_best, rule.strip()])  # fmt: skip
    return rows


def _about_baseline(table: pd.DataFrame, alpha: float, baseline: str | None, sign: int) -> list[str]:
    if baseline is None:
        return []
    pairs, said = summaries.compare_summaries(table, alpha, baseline), []
    for row in pairs[pairs["separated"]].to_dict("records"):
        above = row["loss_b"] == baseline
        loss, gain = (row["loss_a"], row["difference"]) if above else (row["loss_b"], -row["difference"])
        said.append(f"{loss} ({number(sign * gain, 3, '+')}, p {number(row['p_holm'], 3)})")
    return [f"against the baseline {baseline}, tested over its own pairs alone: "
            f"{listed(said) + ' differ' + 's' * (len(said) == 1) if said else 'none is shown to differ'}"]  # fmt: skip


def _about_bold(bold: pd.DataFrame) -> list[str]:
    said = [f"the papers' rule (an unadjusted Welch t-test against the best mean, p > 0.05; no error guarantee) prints "
            f"in bold: {', '.join(bold.index[bold['bold']])}"]  # fmt: skip
    open_ = list(bold.index[~bold["settled"]])
    if open_:
        said.append(f"warning: of {listed(open_)} rounding alone may have decided, by that rule")
    return said


def _about_rounding(pairs: pd.DataFrame) -> list[str]:
    """A warning where numbers that are printed as these may give another best set."""
    unsettled = [f"{row['loss_a']} and {row['loss_b']}" for row in pairs[~pairs["settled"]].to_dict("records")]
    more = f"; {len(unsettled) - MOST_NAMED} more" if len(unsettled) > MOST_NAMED else ""
    named = "; ".join(unsettled[:MOST_NAMED])
    return [f"warning: rounding alone may have decided whether these are separated: {named}{more}"] if unsettled else []


def _about_test(table: pd.DataFrame, pairs: int, alpha: float) -> list[str]:
    said = [f"method: unpaired Welch t-tests with Holm's adjustment over {pairs} pair{'s' * (pairs > 1)}, from means, "
            "errors and n"]  # fmt: skip
    unpaired, *paired = (number(value, 2) for value in summaries.lost_pairing(table, alpha, CORRELATIONS))
    as_pairs = listed([f"{value} with a correlation of {by:g}" for value, by in zip(paired, CORRELATIONS, strict=True)])
    said.append(f"from such numbers runs with the same seeds cannot be paired: a true difference of {unpaired} would "
                f"be found with a chance of 80% (median over pairs); in pairs it would be {as_pairs} over seeds")
    if (table["sd"] == 0).any():
        said.append(f"warning: the error of {listed(list(table.index[table['sd'] == 0]))} is printed as 0, which is a "
                    "rounded one: what it alone separates is no evidence")  # fmt: skip
    return said


def show_over_blocks(
    found: Published, alpha: float, baseline: str | None, lower_is_better: bool, console: Console
) -> None:
    """Print ranks over all tables, what holds over data sets, and what the papers' tests over all tables say."""
    sign = -1 if lower_is_better else 1
    means = sign * found.means()
    try:
        sets = ranking.aggregate_datasets(means, found.datasets)
        blocks = ranking.rank_losses(means, alpha, baseline, found.datasets)
    except InputError as error:
        raise InputError(str(error).replace("means: ", "the tables: ", 1)) from None
    over = ranking.rank_losses(sets, alpha, baseline) if len(sets) > 1 else None
    best = over.best_set if over else []
    title = f"over {len(blocks.means)} tables of {len(sets)} data set{'s' * (len(sets) > 1)}:"
    console.print(Text(title, style="bold"))
    rows = [["loss", "average rank", "wins", "mean", f"to {baseline or blocks.table.index[0]}"]]
    rows += [[str(loss), f"{row['average_rank']:.2f}", f"{row['wins']:.0f}", number(sign * row["mean"], 5),
              number(sign * row["mean_difference"], 3, "+")] for loss, row in blocks.table.iterrows()]  # fmt: skip
    print_table(rows, pd.Series(blocks.table.index.isin(best)), console)
    if over is None:
        say = [f"all tables are of {sets.index[0]}: nothing can be said about other data sets"]
    else:
        say = [f"best set: {', '.join(best)} (no other loss is shown to beat them, at {alpha:g} over all pairs)",
               f"method: {ranking.MODES[ranking.DEFAULT]}, tables of one data set averaged",
               *(f"warning: {text}" for text in over.warnings)]  # fmt: skip
    say += _paper_modes(blocks)
    # Of Wilcoxon's test nothing: over tables of one data set it is not made.
    say += [f"warning: {text}" for text in blocks.warnings
            if text.startswith("left out") or (over is None and "Wilcoxon" not in text)]  # fmt: skip
    for line in say:
        console.print(Text(line))


def _paper_modes(blocks: ranking.Ranking) -> list[str]:
    """What the papers' tests say, each table counted as a block of its own."""
    return [f"{ranking.MODES[mode]}; over all tables as blocks: {_separated(blocks.pairs, mode)}"
            for mode in ranking.PAPER_MODES]  # fmt: skip


def _separated(pairs: pd.DataFrame, mode: str) -> str:
    apart = [f"{row['loss_a']} from {row['loss_b']}" for row in pairs[pairs[mode]].to_dict("records")]
    return f"separates {listed(apart)}" if apart else "separates nothing"


def show_average_ranks(path: Path, ranks: dict[str, float], blocks: int, alpha: float, console: Console) -> None:
    """Print what average ranks over so many data sets allow: Friedman's test and Nemenyi's, a paper mode."""
    try:
        found = summaries.friedman_from_ranks(ranks, blocks, alpha)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    order = pd.Series(ranks).sort_values(kind="stable")
    best = order - order.iloc[0] < found["critical_difference"]
    rows = [["loss", "average rank"], *([str(loss), f"{rank:g}"] for loss, rank in order.items())]
    print_table(rows, best & (found["p"] <= alpha), console)
    console.print(Text(f"Friedman's test over {blocks} data sets: chi2 {found['chi2']:.2f}, p {number(found['p'], 3)}; "
                       f"Iman and Davenport's F {found['f']:.2f}, p {number(found['p_f'], 3)}"))  # fmt: skip
    apart = [str(loss) for loss in order.index[~best]] if found["p"] <= alpha else []
    console.print(Text(f"{ranking.MODES['nemenyi']}; the critical difference is {found['critical_difference']:.2f}: "
                       f"it separates {f'{listed(apart)} from' if apart else 'nothing from'} {order.index[0]}"))
    console.print(Text("Wilcoxon's tests of pairs need the scores on each data set: average ranks do not allow them"))
