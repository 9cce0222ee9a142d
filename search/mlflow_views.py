"""The saved views of a study's experiment in MLflow's UI, so that a reviewer starts at tables that read as answers.

MLflow keeps a saved view as a tag of the experiment: its name, and the state of the page as compressed JSON. A UI that
does not know a field leaves it out; one that does not know the tag shows the runs without it.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

TAG = "mlflow.sharedViewState."
ANSWER = "losstune1"


def saved_views(metric: str, greater_is_better: bool, begun: int) -> dict[str, str]:
    """The tags of three views: a table of the losses, the confirmed seeds and the search trials by loss.

    metric: the study's, as it is called in MLflow. begun: milliseconds since 1970.
    """
    test, score, configuration = f"metrics.`test_{metric}`", "metrics.`score`", "tags.`configuration`"
    up = not greater_is_better
    answer = _state("tags.kind = 'loss' and tags.phase = 'confirm'", test, up, False, {
        test: 130, f"metrics.`test_{metric}_standard_error`": 210, "tags.`in_best_set`": 100, configuration: 420,
        "tags.`seeds`": 70})  # fmt: skip
    seeds = _state("tags.kind = 'seed'", test, up, True, {
        test: 130, "metrics.`test_nll`": 130, "metrics.`test_ece`": 130, "metrics.`epochs`": 100,
        "tags.`state`": 90})  # fmt: skip
    trials = _state("tags.kind = 'trial'", score, up, True, {
        score: 130, "metrics.`epochs`": 100, "tags.`state`": 90, configuration: 420})  # fmt: skip
    named = {"1 losses, confirmed": answer, "2 confirmed seeds, by loss": seeds, "3 search trials, by loss": trials}
    return {f"{TAG}losstune{name[0]}": json.dumps(
        {"name": name, "createdAt": begun, "updatedAt": begun, "state": _packed(state)}
    ) for name, state in named.items()}  # fmt: skip


def _state(filter_: str, order: str, ascending: bool, by_loss: bool, columns: dict[str, int]) -> dict[str, Any]:
    """The state of the runs page: which runs, in which order and groups, with which columns, as wide as in pixels."""
    groups = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "loss"}]}
    return {
        "searchFilter": filter_, "orderByKey": order, "orderByAsc": ascending, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns), "columnOrder": list(columns), "columnWidths": columns,
        "groupBy": groups if by_loss else None, "groupsExpanded": {},
        "useGroupedValuesInCharts": True, "hideEmptyCharts": True, "runsHiddenMode": "SHOW_ALL",
    }  # fmt: skip


def _packed(state: dict[str, Any]) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
