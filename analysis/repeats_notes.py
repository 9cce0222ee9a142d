"""What a reader of a repeated search has to know beside its verdict, in sentences."""

from __future__ import annotations

from collections import Counter

from losstune.analysis.results import Results
from losstune.analysis.wording import listed


def notes_of(parts: list[Results], planned: int, reported: tuple[int, ...]) -> list[str]:
    """The notes of all searches, and what is to be said of them together.

    planned: how many searches there are to be; reported: of how many there have been reports before.
    """
    texts: dict[str, list[str]] = {}
    for number, part in enumerate(parts, start=1):
        for text in part.notes:
            texts.setdefault(text, []).append(str(number))
    found = [text if len(of) == len(parts) else f"In search {listed(of)}: {text}" for text, of in texts.items()]
    if len(parts) < planned:
        found.append(f"{len(parts)} of the {planned} planned searches are in: a look at fewer than were planned is one "
                     "more chance of a false separation, and the error rate is no longer guaranteed.")  # fmt: skip
    earlier = sorted({count for count in reported if count != len(parts)})
    if earlier:
        found.append(f"There was a report on {listed(list(map(str, earlier)), 'or')} searches before: the error rate "
                     "over all of the reports is no longer guaranteed.")  # fmt: skip
    return found + _uneven(parts) + _narrow(parts)


def _uneven(parts: list[Results]) -> list[str]:
    """Searches of different lengths, as a cut by hours leaves them."""
    most = [int(part.budget.loc[part.budget["phase"] == "search", "asked"].max()) for part in parts]
    if len(set(most)) == 1:
        return []
    counts = ", ".join(f"{count} in search {number}" for number, count in enumerate(most, start=1))
    return [f"The searches did not ask the same number of configurations per loss ({counts}): their variance is in "
            "part that of their budgets."]  # fmt: skip


def _narrow(parts: list[Results]) -> list[str]:
    """Ranges at an end of which a search chose, in one sentence; each search's own report has what to try."""
    found = Counter((edge["loss"], edge["hyperparameter"]) for part in parts for edge in part.edges)
    named = [f"{loss}'s {name} ({count} of {len(parts)})" for (loss, name), count in found.items()]
    return [f"Ranges too narrow, the chosen value was at an end in so many searches: {listed(named)}; each search's "
            "own report has what to try."] if named else []  # fmt: skip


def about_lacking(lacking: dict[str, list[int]], searches: int) -> list[str]:
    """Warnings on losses that are not compared: loss -> the searches that did not confirm it, of so many."""
    found = []
    for loss, numbers in lacking.items():
        if len(numbers) == searches:
            found.append(f"{loss} is not compared, because no search confirmed a configuration of it")
            continue
        of = listed([str(number) for number in numbers])
        found.append(f"{loss} is not compared, because search {of} confirmed no configuration of it; what each search "
                     "made of it is in the table of what they chose")  # fmt: skip
    return found
