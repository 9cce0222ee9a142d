"""Values of the ledger that are neither numbers nor text: JSON, as Python writes it, NaN and infinity among them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import JSON, Dialect, Text, TypeDecorator

from losstune.spaces import InputError


class _Text(TypeDecorator):
    """JSON as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else loads(value)


Json = JSON().with_variant(_Text(), "postgresql")  # whose own type takes no NaN, which curves may hold


def loads(text: str) -> Any:
    """A value of a column of JSON; TypeError where SQLite has stored a number, which SQLAlchemy expects."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the ledger is damaged: a value in it is no JSON ({error})") from None
