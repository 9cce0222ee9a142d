"""The saved views of a study's experiment in MLflow's UI, so that a reviewer starts at tables that read as answers.

MLflow keeps a saved view as a tag of the experiment: its name, and the state of the page as compressed JSON. A UI that
does not know a field leaves it out; one that does not know the tag shows the runs without it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

TAG = "mlflow.sharedViewState."
ANSWER = "losstune1"
CONFIGURATION = "tags.`configuration`"


def saved_views(metric: str, greater_is_better: bool, begun: int, losses: list[str]) -> dict[str, str]:
    """The tags of five views: a table of the losses with the report, the confirmed seeds by loss, the search trials by
    loss, the learning curves of the confirmed seeds by loss, and what failed, with the reasons.

    metric: the study's, as it is called in MLflow. begun: milliseconds since 1970. losses: of which there are runs.
    """
    test, score, up = f"metrics.`test_{metric}`", "metrics.`score`", not greater_is_better
    losses_confirmed = _state("tags.phase != 'search' and tags.kind != 'seed'", test, up, {
        test: 130, "tags.`in_best_set`": 100, f"metrics.`test_{metric}_standard_error`": 210, CONFIGURATION: 420,
        "tags.`seeds`": 70})  # fmt: skip
    seeds = _state("tags.kind = 'seed'", test, up, {
        test: 170, "metrics.`test_nll`": 170, "metrics.`test_ece`": 170, "metrics.`epochs`": 130, "tags.`state`": 90,
    })  # fmt: skip
    trials = _state("tags.kind = 'trial'", score, up, {
        score: 170, "metrics.`epochs`": 130, "tags.`state`": 90, CONFIGURATION: 420})  # fmt: skip
    # In the order of their beginning MLflow would hide failed trials under their parents.
    failures = _state("tags.state = 'failed' and tags.kind != 'loss'", "tags.`loss`", True, {
        "tags.`loss`": 130, "tags.`reason`": 420, CONFIGURATION: 420})  # fmt: skip
    mean = _by_loss("average", losses)
    # The mean over trials that were stopped at different epochs says nothing of a loss; the best of them does.
    best = _by_loss("max" if greater_is_better else "min", losses)
    curves = {"chartsSearchFilter": f"^(train_loss|validation_{re.escape(metric)})$"}  # the page's search among charts
    return _tags({"1 losses, confirmed": losses_confirmed, "2 confirmed seeds, by loss": seeds | mean,
                  "3 search trials, by loss": trials | best, "4 learning curves, by loss": seeds | mean | curves,
                  "5 failures, with the reason": failures}, begun)  # fmt: skip


def views_of_searches(metric: str, greater_is_better: bool, begun: int, losses: list[str]) -> dict[str, str]:
    """The tags of two views of a study that repeats its search: a table of the losses with the report, and what each
    search has come to, by loss; the arguments are those of `saved_views`."""
    test, up = f"metrics.`test_{metric}`", not greater_is_better
    over_searches = _state("tags.kind != 'search'", test, up, {
        test: 130, "tags.`in_best_set`": 100, f"metrics.`test_{metric}_standard_error`": 210, "tags.`searches`": 90,
    })  # fmt: skip
    searches = _state("tags.kind = 'search'", test, up, {
        test: 170, "metrics.`score`": 170, "tags.`study`": 170, CONFIGURATION: 420})  # fmt: skip
    by_loss = searches | _by_loss("average", losses)
    return _tags({"1 losses, over searches": over_searches, "2 searches, by loss": by_loss}, begun)


def _tags(named: dict[str, dict[str, Any]], begun: int) -> dict[str, str]:
    return {f"{TAG}losstune{name[0]}": json.dumps(
        {"name": name, "createdAt": begun, "updatedAt": begun, "state": _packed(state)}
    ) for name, state in named.items()}  # fmt: skip


def _state(filter_: str, order: str, ascending: bool, columns: dict[str, int]) -> dict[str, Any]:
    """The state of the runs page: which runs, in which order, with which columns, as wide as in pixels."""
    return {
        "searchFilter": filter_, "orderByKey": order, "orderByAsc": ascending, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns), "columnOrder": list(columns), "columnWidths": columns,
        "groupBy": None, "groupsExpanded": {},
        "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "runsHiddenMode": "SHOW_ALL",
    }  # fmt: skip


def _by_loss(of_each: str, losses: list[str]) -> dict[str, Any]:
    """What a state has so that its runs are in groups by loss, each a line that opens on a click.

    of_each: "average", "min" or "max" of a group's metrics.
    """
    groups = {"aggregateFunction": of_each, "groupByKeys": [{"mode": "tag", "groupByData": "loss"}]}
    return {"groupBy": groups, "groupsExpanded": {f"tag.loss.{loss}": False for loss in losses}}


def _packed(state: dict[str, Any]) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
