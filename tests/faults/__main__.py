"""`make faults`, or PYTHONPATH=tests python -m faults [--seed N] [--only WORDS] [--rounds N] [--jobs N] ..."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from faults.harness import FAULTS, planned
from faults.parallel import prepare, row_of
from faults.table import line, table


def main() -> int:
    """Every row, one after another; status 1 when one was not survived."""
    said = _arguments()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # so that Ray writes none to the home directory
    folder, began, rows = Path(tempfile.mkdtemp(prefix="losstune-faults-", dir=said.folder)), time.monotonic(), []
    plan = list(planned(said.only, said.rounds))
    print(f"{len(plan)} injections, seed {said.seed}, in {folder}", flush=True)
    said_of = folder, said.seed, said.keep
    # A process each, and no more than a row at a time: what lanes compute is compared in bits, on one thread.
    with ProcessPoolExecutor(said.jobs, get_context("spawn"), prepare, said_of) as pool:
        for future in as_completed([pool.submit(row_of, FAULTS.index(fault), *one) for fault, *one in plan]):
            rows.append(future.result())
            print(line(rows[-1]), flush=True)
            if said.json:
                with open(said.json, "a") as file:
                    file.write(json.dumps({"seed": said.seed, **rows[-1].as_dict()}) + "\n")
    order = {(fault.name, study, phase): number for number, (fault, phase, study, _) in enumerate(plan)}
    rows.sort(key=lambda row: order[row.fault, row.study, row.phase])
    survived = sum(row.survived for row in rows)
    minutes = (time.monotonic() - began) / 60
    print(f"\n{table(rows)}\n\n{survived} of {len(rows)} survived, {minutes:.0f} min, seed {said.seed}")
    if survived == len(rows) and not said.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if survived == len(rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the random moments")
    parser.add_argument("--only", action="append", help="rows whose 'fault, phase, study' has these words")
    parser.add_argument("--rounds", type=int, default=1, help="how many times every row, at other moments")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time")
    parser.add_argument("--json", help="a file to which every row is added as a line")
    parser.add_argument("--folder", help="where the studies lie; default: the system's temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folders of what was survived too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
