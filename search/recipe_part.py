"""The recipe of a study: how to train, apart from the loss, as its file says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from losstune.search.fields import Number, Part, Positive, Whole
from losstune.spaces import InputError
from losstune.trainables.augmentation import check
from losstune.trainables.schedules import Schedule, resolve

Share = Annotated[float, Number, Field(ge=0, lt=1)]

# AdamW's steps do not shrink with the gradient, so that the losses' own learning rates, which are SGD's, are far too
# large for it. Around the default of Kingma and Ba and of torch.optim.AdamW.
ADAMW_LEARNING_RATE = {"low": 1e-4, "high": 1e-2, "log": True, "default": 1e-3}


def _average(value: Any) -> Any:
    if isinstance(value, dict):
        if list(value) != ["decay"]:
            raise ValueError("should be a number in (0, 1), or {decay: such a number}")
        value = value["decay"]
    return value


def _examples(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value > 0 or isinstance(value, float) and 0 < value <= 1):
        raise ValueError("should be a whole number of examples, or a share in (0, 1]")
    return value


def _switch(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError("should be auto, true or false")
    return value


class RecipePart(Part):
    """How to train, apart from the loss. A field that is not said keeps the meaning of studies that never had it.

    label_noise, train_examples: the data set's training part is degraded before validation is held out of it, with
    split.seed: whoever has careless annotators, or few examples, has no others to tune on. The test stays clean.
    """

    epochs: Whole = 27
    batch_size: Whole = 64
    optimizer: Literal["sgd_nesterov", "sgd", "adamw"] = "sgd_nesterov"
    momentum: Share = 0.9
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: Positive = 1e-8
    schedule: Any = "cosine"
    tune: tuple[Literal["learning_rate", "weight_decay"], ...] = ("learning_rate", "weight_decay")
    learning_rate: Any = None
    weight_decay: Any = None
    weight_decay_as: Literal["product", "coefficient"] = "product"
    decay_norm: Annotated[bool | Literal["auto"], BeforeValidator(_switch)] = "auto"
    clip_norm: Positive | None = None
    average: Annotated[Annotated[float, Number, Field(gt=0, lt=1)] | None, BeforeValidator(_average)] = None
    mixup: Positive | None = None
    augmentation: Any = "none"
    class_weights: Literal["none", "balanced"] | tuple[Positive, ...] = "none"
    label_noise: Share = 0.0
    train_examples: Annotated[Any, BeforeValidator(_examples)] = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    init: Literal["random"] = "random"

    @model_validator(mode="before")
    @classmethod
    def _learning_rate_of_adamw(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("optimizer") == "adamw" and fields.get("learning_rate") is None:
            return {**fields, "learning_rate": ADAMW_LEARNING_RATE}
        return fields


def schedule_of(recipe: RecipePart) -> Schedule:
    """The recipe's schedule; InputError names the setting that is wrong."""
    return resolve(recipe.schedule, recipe.epochs)


def check_recipe(recipe: RecipePart, losses: tuple[Any, ...]) -> None:
    """What one field alone does not show. losses: as the study writes them."""
    schedule_of(recipe)
    check(recipe.augmentation)
    adamw, said = recipe.optimizer == "adamw", recipe.model_fields_set
    if adamw and "momentum" in said:
        raise InputError("recipe.momentum: not for adamw; allowed: betas")
    for key in () if adamw else sorted({"betas", "eps"} & said):
        raise InputError(f"recipe.{key}: not for {recipe.optimizer}; allowed: momentum, or optimizer adamw")
    if recipe.weight_decay_as == "coefficient" and recipe.weight_decay is None:
        for loss in losses:
            name, own = next(iter(loss.items())) if isinstance(loss, dict) else (loss, None)
            if "weight_decay" not in (own or {}):
                raise InputError(f"recipe.weight_decay_as: coefficient, but the range of {name} is of products "
                                 f"with the learning rate; allowed: product, or recipe.weight_decay with values"
                                 )  # fmt: skip


def identity_of(recipe: RecipePart) -> dict[str, Any]:
    """The recipe as plain data, for the study's identity; without what is in the losses' spaces."""
    fields = recipe.model_dump(mode="json", exclude={"learning_rate", "weight_decay", "tune"})
    return {**fields, "schedule": schedule_of(recipe).spec}
