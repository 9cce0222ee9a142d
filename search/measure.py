"""`losstune check`: what a study will do, and with --measure how long, how much disk and how much memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from losstune.search import coarse_to_fine, grids
from losstune.search.methods import PLANNED, wanted_of
from losstune.search.other_data import transferred_examples
from losstune.search.plan import Plan, Sizes
from losstune.search.points import size
from losstune.search.record_part import recording
from losstune.search.study import Study
from losstune.spaces import space_of

PROBE_SECONDS = 20.0  # of training; with imports the whole probe stays under a minute
PROBE_EXAMPLES = 2048  # a large data set is probed on so many, and scaled


def member_epochs(study: Study) -> tuple[int, int]:
    """Member-epochs expected in search, where halving lets 1/factor of a rung go on, and at most in confirm.

    A loss of two passes per step counts twice.
    """
    search, passes = 0.0, {loss: space_of(loss).passes for loss in study.spaces}
    for loss, trials in asked(study).items():
        going, before = float(trials), 0
        for rung in study.rungs():
            search += max(1.0, going) * (rung - before) * study.search.seeds * passes[loss]
            going, before = going / (study.search.halving.factor if study.search.halving else 1), rung
    return round(search), sum(passes.values()) * study.confirm.seeds * study.recipe.epochs


def asked(study: Study) -> dict[str, int]:
    """How many configurations each loss is asked, at most where results decide."""
    return {loss: wanted_of(study, loss, [], True, 0) for loss in study.spaces}


def plan_lines(study: Study, sizes: Sizes) -> list[str]:
    """What a study will do, a line each."""
    search, confirm = member_epochs(study)
    asks = asked(study)
    at_most = "at most " if study.search.method == "coarse_to_fine" else ""
    rungs = ", ".join(map(str, study.rungs()))
    shape = " x ".join(map(str, sizes.input_shape))
    return [
        f"{study.name}: {len(study.spaces)} losses on {study.data} with {study.network}, by {study.metric}",
        f"data      {sizes.n_train:,} to train, {sizes.n_validation:,} to validate, {sizes.n_test:,} to test; "
        f"{sizes.num_classes} classes; {shape}",
        f"search    {at_most}{sum(asks.values())} configurations ({_per_loss(study, asks)}) x {study.search.seeds} "
        f"seeds, rungs at {rungs} epochs: about {search:,} member-epochs",
        *_grid_lines(study),
        f"confirm   {len(study.spaces)} losses x {study.confirm.seeds} fresh seeds: at most {confirm:,} member-epochs",
        *([f"searches  all of it {study.searches} times, each time with a split of its own: about "
           f"{study.searches * (search + confirm):,} member-epochs"] if study.searches > 1 else []),
        f"slots     {study.resources.cpus:g} CPUs, {study.resources.gpus:g} GPUs each; this machine has "
        f"{os.cpu_count()} CPUs",
    ]  # fmt: skip


def _per_loss(study: Study, asks: dict[str, int]) -> str:
    counts = sorted(set(asks.values()))
    return f"{counts[0]} per loss" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} per loss"


def _grid_lines(study: Study) -> list[str]:
    """What a method that plans its points begins with, a line per loss."""
    trials, lines = study.search.trials, []
    for loss, space in study.spaces.items() if study.search.method in PLANNED else ():
        coarse = study.search.method == "coarse_to_fine"
        levels = coarse_to_fine.levels(space) if coarse else grids.levels(space, trials)
        parts = " x ".join(f"{name} {len(values)}" for name, values in levels.items()) or "nothing searched"
        short = f"; search.trials, {trials}, ends it there" if size(levels) > trials else ""
        lines.append(f"{'coarse' if coarse else 'grid':10}{loss}: {parts} = {size(levels)}{short}")
    return lines


def measured(plan: Plan) -> list[str]:
    """Train for a moment here, alone on one slot, and reckon hours, disk and memory."""
    import psutil

    seconds, stack = _probe(plan)
    study, sizes = plan.study, plan
    search, confirm = member_epochs(study)
    gpus = bool(study.resources.gpus)
    slots = 1 if gpus else max(1, int((os.cpu_count() or 1) // study.resources.cpus))
    slots = min(slots, study.resources.max_lanes or slots)
    hours = seconds * (search + confirm) * study.searches / slots / 3600
    memory = psutil.Process().memory_info().rss
    logits = (len(sizes.validation) + len(sizes.test)) * plan.num_classes * 4
    members = len(study.spaces) * study.confirm.seeds * study.searches
    width = max(stack.layout_of(loss).width for loss in study.spaces)
    recorded = _recorded_bytes(plan, stack)
    disk = members * (logits + width * 4 + recorded) + slots * stack.width * width * 8
    return [
        f"measured  {seconds:.3g} s per member-epoch, {stack.width} members at a time, {stack.choice.kind} x "
        f"{stack.choice.together}",
        f"time      about {hours:.2g} h on {slots} {'slot' if slots == 1 else 'slots'}, plus half a minute to start "
        f"and to report",
        f"disk      at most {disk / 1e6:.0f} MB, of which {members * recorded / 1e6:.0f} MB records "
        f"({recorded / 1e6:.2g} MB per confirmed member; record: null keeps none)",
        f"memory    about {(slots * memory + 0.7e9) / 1e9:.1f} GB",
    ]  # fmt: skip


def _recorded_bytes(plan: Plan, stack: Any) -> int:
    """What the record of a confirmed member takes."""
    from losstune.trainables.recording import bytes_per_member

    wanted = recording(plan.study.record)
    train = len(plan.train) + (len(plan.validation) if plan.study.confirm.train_on == "all" else 0)
    inside = bytes_per_member(wanted, stack, train, len(plan.test)) if wanted and wanted.looks_inside else 0
    return inside + 2 * stack.in_features * transferred_examples(plan)


def _probe(plan: Plan) -> tuple[float, Any]:
    """Seconds per member-epoch of the full training set, with the stack filled by the losses' defaults."""
    import torch

    from losstune.search.job import make_job
    from losstune.trainables.inputs import Normalization

    study = plan.study
    torch.set_num_threads(max(1, int(study.resources.cpus)))
    share = min(1.0, max(PROBE_EXAMPLES, study.recipe.batch_size) / len(plan.train))
    used = [np.arange(max(1, round(share * len(part)))) for part in (plan.train, plan.validation)]
    train, validation = plan.train.take(used[0]), plan.validation.take(used[1])
    job = make_job(plan, Path())
    found = job.measure(train)
    stack = job.stack(train, validation, Normalization(plan.train.x), found.choice, found.width)
    _fill(stack, study)
    stack.train_epoch()
    epochs, started = 0, time.perf_counter()
    while epochs < 3 or time.perf_counter() - started < 2:
        stack.train_epoch()
        epochs += 1
        if time.perf_counter() - started > PROBE_SECONDS:
            break
    units = sum(len(members) * space_of(members[0].trial.loss).passes for members in stack.members.values())
    return (time.perf_counter() - started) / epochs / units * len(plan.train) / len(train), stack


def _fill(stack: Any, study: Study) -> None:
    from losstune.trainables.trial import Trial

    number = 0
    while stack.free > 0:
        loss = list(study.spaces)[number % len(study.spaces)]
        configuration = {**study.spaces[loss].fixed, **study.spaces[loss].default()}
        rates = configuration.pop("learning_rate"), configuration.pop("weight_decay")
        stack.join(Trial(f"probe-{number}", loss, configuration, *rates, "search", (number,), study.recipe.epochs))
        number += 1
