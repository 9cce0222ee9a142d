"""What exists: losses with their spaces, data sets, networks, studies, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from losstune.spaces import NAMED_SPACES, SHARED, SPACES, Hyperparameter, all_spaces, plugin_version


def losses(console: Console) -> None:
    """Every loss with its hyperparameters: default, searched range, legal values, meaning and source."""
    spaces, problems = all_spaces()
    for name, space in spaces.items():
        package = "" if name in SPACES else f", from {plugin_version(name)}"
        console.print(f"[bold]{name}[/]  {space.summary} ({space.source}{package})")
        if space.known_to_fail:
            console.print(f"    known to train deep networks badly ({space.known_to_fail})", style="yellow")
        _hyperparameters(console, space.hyperparameters)
    console.print("[bold]all losses[/]  tuned for every loss alike; the defaults are those of each loss's own source")
    _hyperparameters(console, SHARED)
    _combinations_and_spaces(console)
    for problem in problems:
        console.print(Text(problem, style="yellow"))


def _combinations_and_spaces(console: Console) -> None:
    added = ", ".join(name for name, space in SPACES.items() if space.modifies)
    console.print("[bold]combinations[/]  any loss with these joined to it by +, as label_smoothing+dropout:")
    console.print(f"    {added}")
    console.print("[bold]named spaces[/]  papers' own grids and settings, in a study as `space: zhou`:")
    for name, named in NAMED_SPACES.items():
        console.print(f"    {name}: {named.summary} ({named.source})")
        console.print(Text(f"        {', '.join(named.losses)}", style="dim"))


def _hyperparameters(console: Console, declared: Mapping[str, Hyperparameter]) -> None:
    for name, p in declared.items():
        default = f"{p.default:.3g}" if isinstance(p.default, float) else str(p.default)
        searched = "not searched" if p.describe() == "fixed" else f"searched {p.describe()}"
        console.print(Text(f"    {name} = {default}; {searched}; legal {p.bounds()}"))
        console.print(Text(f"        {p.meaning} ({p.source})", style="dim"))


def datasets(console: Console) -> None:
    """Every data set, and the forms of one's own."""
    from losstune.trainables.datasets import DATASETS, FORMATS

    table = _table("data", "what", "size", "source")
    for name, source in DATASETS.items():
        sizes = source.sizes
        size = f"{sizes.n_train:,} + {sizes.n_test:,}, {sizes.num_classes} classes" if sizes else ""
        table.add_row(f"[bold]{name}[/]", source.summary, size, f"{source.source}; {source.licence}", end_section=True)
    for prefix, form in FORMATS.items():
        table.add_row(f"[bold]{prefix}:{form.names}[/]", form.summary)
    table.add_row("[bold]my_data.py:load[/]", "your own function that returns those arrays", "", "shipped to workers")
    console.print(table)
    console.print("Those that are not embedded lie under the folder that LOSSTUNE_DATA names.", style="dim")


def architectures(console: Console) -> None:
    """Every network, and the form of one's own."""
    from losstune.trainables.architectures import ARCHITECTURES, LIBRARIES

    table = _table("network", "what", "inputs", "source")
    for name, architecture in ARCHITECTURES.items():
        inputs = architecture.input if architecture.min_size == 1 else f"images from {architecture.min_size}"
        table.add_row(f"[bold]{name}[/]", architecture.summary, inputs, architecture.source)
    for name, library in LIBRARIES.items():
        table.add_row(f"[bold]{name}:NAME[/]", library.summary, "images", library.source)
    table.add_row("[bold]my_net.py:build[/]", "your own build(input_shape, num_classes) -> nn.Module; its final "
                  "layer is an nn.Linear", "any", "shipped to workers")  # fmt: skip
    console.print(table)


def studies(console: Console) -> None:
    """Every shipped study, by the first line of its file."""
    from losstune.search.study import shipped_studies

    table = _table("study", "what")
    for name, path in shipped_studies().items():
        table.add_row(f"[bold]{name}[/]", path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
    console.print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(name, no_wrap=index == 0, overflow="fold")
    return table
