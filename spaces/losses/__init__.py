"""The search space of every loss: SPACES, from loss name to its hyperparameters. No torch here.

Each family's spaces stand in the file of the same name as its formulas in trainables/losses.
"""

from losstune.spaces.losses import cross_entropy, geometry, margins, squared, true_probability
from losstune.spaces.space import Space

SPACES: dict[str, Space] = {
    **cross_entropy.SPACES,
    **squared.SPACES,
    **true_probability.SPACES,
    **margins.SPACES,
    **geometry.SPACES,
}
