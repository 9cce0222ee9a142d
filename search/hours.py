"""The cut by hours: when it is in force, and what it leaves of a loss's trials."""

from __future__ import annotations

from losstune.search.study import Study


def out_of_time(study: Study, spent: float) -> bool:
    """Whether a study's hours are up, after so many seconds of search."""
    return study.stop.hours is not None and spent >= study.stop.hours * 3600


def considered(asked: int, limit: int | None) -> int:
    """How many of a loss's trials count when its search was cut at a limit."""
    return asked if limit is None else min(asked, limit)
