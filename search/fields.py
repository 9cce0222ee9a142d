"""What the parts of a study are made of: types of fields that take what is meant, and refuse slips."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt


class Part(BaseModel):
    """A mapping of a study file; unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def number(value: Any) -> Any:
    """A number as it is; pydantic would take true and "3" for numbers too, which in a study are slips."""
    if isinstance(value, bool | str):
        raise ValueError(f"{value!r} is not a number")
    return value


Number = BeforeValidator(number)
Whole = Annotated[PositiveInt, Number, Field(le=1_000_000)]  # of what there is in lists: more is a slip
Positive = Annotated[PositiveFloat, Number, Field(allow_inf_nan=False)]
