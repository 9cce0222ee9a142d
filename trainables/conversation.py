"""What a lane says to the conductor and hears from it: each message is answered before the next one is sent."""

from __future__ import annotations

import time

from losstune.trainables.messages import Exchange, Message, Orders, Report

LIFE_SECONDS = 2.0  # in the midst of an epoch a lane is heard of this often
LISTEN_SECONDS = 0.1  # between looks, at that time, whether it is answered


class Conversation:
    """One lane's. waits: whether the last message has no answer yet. early: answers that came in the midst of an epoch.
    """

    def __init__(self, exchange: Exchange, lane: str):
        self.exchange, self.lane = exchange, lane
        self.sent, self.waits = 0, False
        self.early: list[Orders] = []
        self._next = 0.0  # when to speak, or to listen, in the midst of an epoch (time.monotonic)

    def send(self, news: list[Report], free: int, training_seconds: float, notes: list[str], clock: int) -> None:
        if self.waits:
            raise RuntimeError("a lane spoke before it had its answer")
        self.sent += 1
        self.exchange.send(Message(self.lane, self.sent, news, free, training_seconds, notes, clock))
        self.waits, self._next = True, time.monotonic() + LISTEN_SECONDS

    def hear(self, seconds: float | None) -> Orders | None:
        """The answer to the last message, waiting for it so long at most, or until it has come (None); None when it
        has not come, or none is due."""
        if not self.waits:
            return None
        orders = self.exchange.answer(seconds)
        self.waits = orders is None
        self._next = time.monotonic() + (LISTEN_SECONDS if self.waits else LIFE_SECONDS)
        return orders

    def is_to_end(self, training_seconds: float, clock: int) -> bool:
        """Asked at every step: whether the conductor wants the lane to end in the midst of an epoch.

        Now and then it says that it lives, which the answer comes to. Whatever else is answered is kept for the end of
        the epoch: only there trials join and leave.
        """
        if time.monotonic() < self._next:
            return False
        if not self.waits:
            self.send([], 0, training_seconds, [], clock)
            return False
        orders = self.hear(0.0)
        if orders is None:
            return False
        self.early.append(orders)
        return orders.park or orders.leave or orders.done
