"""What the parts of a study are made of: types of fields that take what is meant, and refuse slips; what is wrong."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)


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


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of validating a model: field, what is wrong, what is allowed."""
    problem = error.errors()[0]
    field = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("tuple[", "literal[")))
    if problem["type"] == "extra_forbidden":
        parent: Any = model
        for part in problem["loc"][:-1]:
            parent = _model_of(parent, str(part))
        return f"{field}: unknown key; allowed: {', '.join(parent.model_fields)}"
    if problem["type"] == "missing":
        return f"{field}: missing; it has no default"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should", "should").splitlines()[0]
    return f"{field}: {problem['input']!r}: {message}"[:300]


def _model_of(parent: Any, field: str) -> Any:
    annotation = parent.model_fields[field].annotation
    options = getattr(annotation, "__args__", (annotation,))
    return next(option for option in options if hasattr(option, "model_fields"))
