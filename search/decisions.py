"""The decision on what a lane reports of a trial, and how trials end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from losstune.search.confirming import Confirm
from losstune.search.ledger import write
from losstune.search.ledger.book import Book
from losstune.search.searching import Search
from losstune.trainables.messages import Report

Row = dict[str, Any]


class Decisions:
    """Decides on reports and ends trials, in the book and in what is known of the phases."""

    def __init__(self, book: Book, search: Search, confirm: Confirm):
        self.book, self.search, self.confirm = book, search, confirm
        self.untold: dict[str, list[str]] = {}  # lane -> trials that were cut while it trains them

    def on(self, row: Row, report: Report) -> str:
        """go, stop (halving) or end (the full length); what the ledger has already, from an earlier attempt, stands."""
        known = self.book.decisions.get((row["id"], report.epoch))
        recorded = self.book.recorded.get(row["id"], 0)
        new = [epoch for epoch in report.curve if epoch["epoch"] > recorded]  # the same bits, where not new
        if known is not None or not new:
            self.search.note_best(row, report.curve)  # a disk may have lost it of the row and not of the reports
            self.book.alter(row, epoch=max(row["epoch"], report.epoch))
            return known or "go"
        report = replace(report, curve=new)
        decision = self._new(row, report)
        self.book.record(row, report, decision, self.search.score_at(report.curve[-1]))
        return decision

    def _new(self, row: Row, report: Report) -> str:
        if row["phase"] == "confirm":
            self.search.note_best(row, report.curve)
            return "end" if report.epoch >= row["epochs"] else "go"
        return self.search.decide(row, report)

    def end(self, tx: Connection, row: Row, state: str, **values: Any) -> None:
        """Commit a trial's end."""
        if state == "failed" and row["phase"] == "confirm":
            values["results"] = self.confirm.failed_results()
        if state == "cut" and row["lane"]:
            self.untold.setdefault(row["lane"], []).append(row["id"])
        if row["phase"] == "search":
            self.search.ended(row, state)
            if state == "failed":
                values["score"] = self.search.floor
        self.book.end(row, state, **values)
        if state == "failed":
            write.add_event(tx, "failure", f"{row['id']}: {row['reason']}")
