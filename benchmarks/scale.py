"""What 10,000 trials cost the conductor, the ledger, MLflow and the report, with 500 simulated slots; stock Ray Tune.

    python benchmarks/scale.py [--trials N] [--slots N] [--losses N] [--halving] [--peer N]
    python benchmarks/scale.py --real [--trials N]      # sixteen real lanes instead: benchmarks/scale_real.py

The conductor, its ledger and the projection to MLflow are the real ones; the lanes are benchmarks/virtual_lanes.py.
Their curves are those of a real study of the digits, which is run once and kept under --recorded: each trial takes the
curve of the nearest configuration of its loss, a little worse the farther it is. Every trial brings its five rung
reports: halving decides on each as always, and its word is then set aside, unless --halving is given.

A trial's cost is its ask and all of its reports, those of checkpoints among them; trials are counted as they are asked,
and what is asked of a loss before ten of its trials have ended is drawn at random, which costs TPE nothing: the 100th
trial of 500 slots is such. Wall seconds include the waits for the disk; beside them stand the processor's, which other
load changes less. Virtual time passes by the wall seconds that the conductor takes; its own waits (lanes' signs of life
every 5 s) go by virtual time. Not in these figures: what Ray takes to carry a message; see --real.

--peer: so many trials are run by stock Ray Tune too (benchmarks/scale_peer.py), and scaled to --trials; 0: none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from start import COMMAND
from virtual_lanes import Answering, Clock, Costs, Lane, Recorded, run

LOSSES = ["softmax", "label_smoothing", "dropout", "final_layer_l2", "logit_penalty", "logit_norm", "cosine_softmax",
          "sigmoid", "squared_error"]  # fmt: skip
EPOCHS, SEEDS, MEMBERS = 81, 3, 5  # of a search trial; of the confirm
STUDY = {
    "data": "digits", "network": "mlp", "recipe": {"epochs": EPOCHS},
    "search": {"trials": 4, "seeds": SEEDS, "method": "random", "halving": None}, "confirm": {"seeds": MEMBERS},
}  # fmt: skip
TPE = {"method": "tpe", "halving": {"first": 1, "factor": 3}}  # rungs at 1, 3, 9, 27 and 81 epochs
PEER, REAL = (str(Path(__file__).with_name(name)) for name in ("scale_peer.py", "scale_real.py"))
WINDOW = 100  # trials, around the one that is named


def recorded(folder: Path) -> Recorded:
    """The study whose curves are taken, run if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recorded.yaml").write_text(yaml.safe_dump({**STUDY, "losses": LOSSES}))
    command = [COMMAND, "run", str(folder / "recorded.yaml"), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr[-2000:])
    return Recorded(folder / "recorded")


def write_study(folder: Path, trials: int, losses: int, **fields: Any) -> Path:
    """A study of so many trials in all."""
    search = {**STUDY["search"], **TPE, "trials": -(-trials // losses)}
    path = folder / "scale.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "losses": LOSSES[:losses], "search": search, **fields}))
    return path


def opened(study: Path, folder: Path, slots: int) -> Any:
    """The conductor of a new run, as search/lanes.py starts it."""
    from losstune.search.conductor import Conductor
    from losstune.search.job import make_job
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_path
    from losstune.search.plan import make_plan
    from losstune.search.provenance import record
    from losstune.search.study import load_study

    plan = make_plan(load_study(study))
    ledger = Ledger.create_or_open(ledger_path(folder))
    record(plan, ledger)
    scorer = make_job(plan, folder).scorer
    floor = {name: scorer.floor(plan.train.y, split)
             for name, split in (("validation", plan.validation), ("test", plan.test))}  # fmt: skip
    return Conductor(plan.study, ledger, floor, plan.metric.greater_is_better, None, slots)


def decide_nothing(conductor: Any) -> None:
    """Have every trial go on at every rung, after halving has decided as always."""
    for proposals in conductor.search.proposals.values():
        decide = proposals.halving.stops
        proposals.halving.stops = lambda *report, decide=decide: decide(*report) and False


class Watch:
    """How busy the slots were while there was work for all of them, and in the whole search."""

    def __init__(self, conductor: Any, lanes: list[Lane]):
        self.conductor, self.lanes = conductor, lanes
        self.asked: tuple[float, float] | None = None  # virtual time and share, when the last trial had been asked
        self.searched: tuple[float, float] | None = None
        self._next = 0.0

    def __call__(self, now: float) -> bool:
        if now >= self._next:
            self._next = now + 0.5
            if self.asked is None and not self.conductor.search.left:
                self.asked = now, self._share(now)
            if self.searched is None and self.conductor.search.chosen:
                self.searched = now, self._share(now)
        return False

    def _share(self, now: float) -> float:
        return sum(lane.trained for lane in self.lanes) / (now * len(self.lanes))


def simulate(study: Path, folder: Path, slots: int, halving: bool, trial_seconds: float, curves: Recorded) -> None:
    """Conduct the study from its first trial to its last confirmed member, and print what that took."""
    from losstune.search.conductor_actor import collect_seldom

    conductor, clock = opened(study, folder, slots), Clock()
    collect_seldom()  # as where it is an actor
    answering = Answering(conductor, clock)
    if not halving:
        decide_nothing(conductor)
    lanes = [Lane(f"slot-{n:03d}", answering, curves, SEEDS, trial_seconds / EPOCHS) for n in range(slots)]
    watch, began = Watch(conductor, lanes), time.perf_counter()
    clock.rule()
    try:
        ended = run(lanes, watch)
    finally:
        clock.let_go()
    print_costs(answering.costs)
    costs, (at, share), (end, whole) = answering.costs, watch.asked, watch.searched
    beats, wall, worked = costs.beats
    print(f"messages without news: {beats:,}, {1000 * wall / max(1, beats):.3f} ms each "
          f"(processor {1000 * worked / max(1, beats):.3f}); all messages, per trial: "
          f"{1000 * costs.busy / len(costs.trials):.1f} ms\n"
          f"slots busy: {share:.1%} until the last trial was asked at {at:.0f} virtual s, {whole:.1%} until the "
          f"search's end at {end:.0f} s; the conductor was at work {costs.busy / ended:.0%} of the time\n"
          f"the simulation took {time.perf_counter() - began:.0f} s; peak memory {peak(resource.RUSAGE_SELF):.0f} MiB, "
          "lanes included", flush=True)  # fmt: skip
    conductor.ledger.close()


def peak(whose: int) -> float:
    """The most memory that this process, or any that it started and that has ended, has held, in MiB."""
    return resource.getrusage(whose).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def print_costs(costs: Costs) -> None:
    """What a trial and a report cost around the 100th trial, the 1,000th and so on, in the order of their asks."""
    trials, first = list(costs.trials), None
    trials = [trial for trial in trials if trial.startswith("search")]
    print("ms of the conductor, ledger included, as medians over 100 trials: wall (processor)")
    for at in dict.fromkeys((100, 1000, 10_000, len(trials) - WINDOW // 2)):
        window = trials[max(0, at - WINDOW // 2) : at + WINDOW // 2]
        if len(window) < WINDOW:
            continue
        wall, worked, ask = (1000 * statistics.median(costs.trials[trial][n] for trial in window) for n in range(3))
        reports = [report for trial in window for report in costs.reports.get(trial, ())]
        report, report_worked = (1000 * statistics.median(one[n] for one in reports) for n in range(2))
        first = first or (wall, worked)
        print(f"  trial {at:6,}: {wall:6.1f} ({worked:5.1f}) a trial, of which its ask {ask:5.2f}; {report:5.2f} "
              f"({report_worked:4.2f}) a report; {wall / first[0]:.2f} ({worked / first[1]:.2f}) x the first",
              flush=True)  # fmt: skip


def look_back(folder: Path) -> None:
    """What it takes to resume, report and project what is recorded."""
    from losstune.search.ledger.database import Ledger
    from losstune.search.locations import ledger_path
    from losstune.search.phases import report
    from losstune.search.tracking import Projection

    sizes = {path.name: path.stat().st_size for path in (folder / "ledger").glob("ledger.db*")}
    print(f"ledger: {sum(sizes.values()) / 1e6:.1f} MB", flush=True)
    ledger = Ledger.create_or_open(ledger_path(folder))
    began = time.perf_counter()
    report(folder, ledger)
    print(f"report: {time.perf_counter() - began:.1f} s", flush=True)
    ledger.close()
    began = time.perf_counter()
    with Projection(folder, folder.name, patience=24 * 3600) as projection:
        projection.finish()
    print(f"all of it to an empty MLflow: {time.perf_counter() - began:.1f} s, "
          f"{'complete' if projection.caught_up else projection.behind}; peak memory of that process "
          f"{peak(resource.RUSAGE_CHILDREN):.0f} MiB", flush=True)  # fmt: skip


def stock(curves: Path, trials: int, whole: int) -> None:
    """Stock Ray Tune, on so many trials, and what the whole would take at that pace."""
    done = subprocess.run([sys.executable, PEER, str(curves), str(trials)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    pace = found["seconds"] / found["trials"]
    print(f"stock Ray Tune, {found['trials']} trials of one loss, 16 at a time, nothing trained: {pace:.2f} s a trial; "
          f"its driver's processor {1000 * found['processor'] / found['trials']:.0f} ms a trial "
          f"({1000 * found['first_half']:.0f} in the first half, {1000 * found['second_half']:.0f} in the second), "
          f"{found['peak']:.0f} MiB\nscaled by {whole / found['trials']:.0f}: {pace * whole / 3600:.1f} h for "
          f"{whole:,} trials, if nothing grew", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="of all losses together")
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--losses", type=int, default=len(LOSSES), choices=range(1, len(LOSSES) + 1))
    parser.add_argument("--halving", action="store_true", help="let halving stop trials")
    parser.add_argument("--trial-seconds", type=float, default=60.0, help="virtual seconds of a full trial")
    parser.add_argument("--recorded", type=Path, default=Path("runs/scale"), help="where the recorded study is kept")
    parser.add_argument("--peer", type=int, default=200, help="trials of stock Ray Tune; 0: none")
    parser.add_argument("--real", action="store_true", help="real lanes instead")
    parser.add_argument("--folder", type=Path, default=Path(), help="on which disk the ledger is")
    options = parser.parse_args()
    if options.real:
        raise SystemExit(subprocess.call([sys.executable, REAL, "--trials", str(options.trials)]))
    curves = recorded(options.recorded)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place) / "scale"
        folder.mkdir()
        study = write_study(Path(place), options.trials, options.losses)
        print(f"{options.trials:,} trials of {options.losses} losses, {options.slots} simulated slots; "
              f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
        curves.copy_files(folder)
        simulate(study, folder, options.slots, options.halving, options.trial_seconds, curves)
        look_back(folder)
    if options.peer:
        stock(curves.folder, options.peer, options.trials)


if __name__ == "__main__":
    main()
