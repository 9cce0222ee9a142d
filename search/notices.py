"""What the user is told beside what a command prints."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    print(f"losstune: {text}", file=sys.stderr)
