"""How alike the representations of two networks are: linear centered kernel alignment (CKA).

K = X X^T and L = Y Y^T are the Gram matrices of the features of the same n examples, in the same order, and
CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (Cortes et al. 2012; linear kernel: Kornblith et al. 2019). Debiased, the
default: the unbiased HSIC of Song et al. 2012, Eq. 5 (Nguyen et al. 2021, Eq. 3); K', L' have zero diagonals:

    HSIC_1 = [tr(K' L') + 1'K'1 1'L'1 / ((n-1)(n-2)) - 2 1'K'L'1 / (n-2)] / (n(n-3)).

Its expectation is 0 for independent features, where that of the biased HSIC_0 = tr(K H L H) / (n-1)^2, H = I - 11'/n,
is not: independent features of width 512 and 200 examples have a biased CKA of 0.7. Both are inner products of centered
matrices (for HSIC_1 the U-centered ones of Szekely and Rizzo 2014), so that CKA is a cosine, from -1 to 1.

Constants added to features change no CKA, nor does rotation or scaling of all features. It is NaN, without a warning,
where it is not defined: features that are the same for all examples, or not finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from losstune.spaces import InputError

BLOCK = 4096
# Where rounding is all that is left of the features or of their Gram matrix, there is no direction to compare.
ROUNDING_STEPS = 8
ROUNDING_OF_SUMS = 1e-12


def gram_vector(features: np.ndarray) -> np.ndarray:
    """What is kept of a layer: (n, ...) features -> (n (n + 1) / 2,) float32, the Gram matrix's upper triangle.

    Row by row with the diagonal, as `numpy.triu_indices(n)` lists it. The features' mean is taken off first, which
    changes no CKA and spares single precision a large constant. Raises InputError for what is no (n, ...) numbers.
    """
    return _packed_gram(features).astype(np.float32)


def cka(x: np.ndarray, y: np.ndarray, debiased: bool = True) -> float:
    """Linear CKA of (n, ...) and (n, ...) features; axes beyond the first are flattened.

    Exact in either space: with fewer features than examples from the features' second moments, else from Gram matrices.
    Raises InputError for different numbers of examples, and fewer than 4 of them (biased: 2).
    """
    x, y = _as_features(x), _as_features(y)
    _check_same_examples([x, y])
    if max(x.shape[1], y.shape[1]) < len(x):
        return float(streaming_cka([(x, y)], debiased)[0, 1])
    return float(cka_matrix([_packed_gram(x), _packed_gram(y)], debiased)[0, 1])


def cka_matrix(grams: np.ndarray | Sequence[np.ndarray], debiased: bool = True) -> np.ndarray:
    """CKA of every two of M representations: (M, n (n + 1) / 2) upper triangles as of `gram_vector` -> (M, M).

    Layers, seeds and losses of any width; computed in the precision of the Gram matrices, with about 0.1 MB of memory
    per representation. Raises InputError for a length that is no triangle's and fewer than 4 examples (biased: 2).
    """
    return _cosines(*_inner_products(grams, debiased))


def streaming_cka(batches: Iterable[Sequence[np.ndarray]], debiased: bool = True) -> np.ndarray:
    """CKA of every two of M representations over all examples at once, in one pass over batches of any size -> (M, M).

    The same as `cka_matrix` of all N examples, whose Gram matrices are never formed. N(N-3) HSIC_1 is, by inserting
    1'X = 0 into the module's formula, with centered features x_i, y_i and k_i = |x_i|^2, l_i = |y_i|^2,

        |X'Y|_F^2 - N/(N-2) sum_i k_i l_i + (sum_i k_i) (sum_i l_i) / ((N-1)(N-2));

    the biased one is |X'Y|_F^2. All follows from the second moments of the vectors (x_i, k_i, 1). Memory: d1 x d2
    doubles for every pair. Raises InputError for no batch, batches that do not fit together, and fewer than 4 examples
    in all (biased: 2).
    """
    origins, moments = [], {}
    for batch in batches:
        features = [_as_features(x) for x in batch]
        _check_same_examples(features)
        origins = origins or [x[0].copy() for x in features]
        if [x.shape[1] for x in features] != [len(origin) for origin in origins]:
            raise InputError("features: every batch has to hold the same representations, as wide as before")
        with np.errstate(all="ignore"):
            vectors = [_with_norms(x, origin) for x, origin in zip(features, origins, strict=True)]
            for i, j in itertools.combinations_with_replacement(range(len(vectors)), 2):
                moments[i, j] = moments.get((i, j), 0.0) + vectors[i].T @ vectors[j]
    if not moments:
        raise InputError("features: there is no batch")
    return _cka_of_moments(moments, np.array([_noise_of(origin) for origin in origins]), debiased)


def seed_averages(similarity: np.ndarray, models: pd.DataFrame, same_seed: bool = False) -> pd.DataFrame:
    """CKA between layers and losses, averaged over all pairs of different seeds.

    similarity: (M, M), as of `cka_matrix`; models: M rows with loss, seed and layer. Rows and columns of the result are
    both (loss, layer), in the order of models: `.loc[a][b]` is the matrix of layers by layers between two losses, and
    `.loc[a][a]` that of one loss between its seeds (Kornblith et al. 2021, Figure 3a). Different seeds, because those
    of one seed share initial weights and the order of the data whatever their loss; same_seed=True averages over these
    instead (`.loc[a][a]` is then within networks). Undefined CKA is left out; NaN where no pair is left. Raises
    InputError where models do not fit.
    """
    _check_models(similarity, models)
    names = pd.MultiIndex.from_frame(models[["loss", "layer"]])
    groups = names.unique()
    member = (groups.get_indexer(names)[:, None] == np.arange(len(groups))).astype(float)
    seeds = models["seed"].to_numpy()
    counted = ((seeds[:, None] == seeds) == same_seed) & np.isfinite(similarity)
    pairs = member.T @ counted @ member
    sums = member.T @ np.where(counted, similarity, 0.0) @ member
    averages = np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)
    return pd.DataFrame(averages, groups, groups)


def loss_similarity(similarity: np.ndarray, models: pd.DataFrame) -> pd.DataFrame:
    """Per layer, how alike the losses are, beside how alike the seeds of one loss are.

    Takes what `seed_averages` takes. A row per layer and unordered pair of losses, a loss with itself included:
    layer, loss_a, loss_b, cka (mean over pairs of different seeds), ceiling and same_seed (mean over pairs that share
    the seed; NaN for a loss with itself). ceiling is sqrt(w_a w_b), w a loss's own seed-to-seed CKA: CKA is an inner
    product of normalized matrices, so that for losses whose seeds have the mean matrices m_a and m_b its expectation is
    <m_a, m_b> <= |m_a| |m_b|. A CKA at its ceiling says that the loss changes no more than the seed does (estimated
    from few seeds it may lie above). The ceiling is NaN where a loss has fewer than two seeds.
    """
    averages, paired = seed_averages(similarity, models), seed_averages(similarity, models, same_seed=True)
    rows = []
    for layer, losses in models.drop_duplicates(["loss", "layer"]).groupby("layer", sort=False)["loss"]:
        for a, b in itertools.combinations_with_replacement(losses, 2):
            one, other = (a, layer), (b, layer)
            within = averages.at[one, one], averages.at[other, other]
            rows.append({
                "layer": layer, "loss_a": a, "loss_b": b, "cka": averages.at[one, other],
                "ceiling": np.sqrt(within[0] * within[1]) if min(within) >= 0 else np.nan,
                "same_seed": np.nan if a == b else paired.at[one, other],
            })  # fmt: skip
    return pd.DataFrame(rows)


def _check_models(similarity: np.ndarray, models: pd.DataFrame) -> None:
    if not {"loss", "seed", "layer"} <= set(models.columns):
        raise InputError("models: the columns loss, seed and layer are needed")
    if similarity.shape != (len(models), len(models)):
        raise InputError(f"similarity: is {similarity.shape}, but there are {len(models)} models")
    twice = models.duplicated(["loss", "seed", "layer"])
    if twice.any():
        raise InputError(f"models: twice the same loss, seed and layer, in row {int(np.argmax(twice))}")


def _as_features(features: np.ndarray) -> np.ndarray:
    """(n, ...) -> (n, d), in their own precision."""
    array = np.asarray(features)
    if array.ndim < 2 or array.dtype.kind not in "fiub" or not array.size:
        raise InputError(f"features: have to be (n, ...) numbers, not {array.dtype} of shape {array.shape}")
    return array.reshape(len(array), -1)


def _check_same_examples(features: Sequence[np.ndarray]) -> int:
    counts = sorted({len(x) for x in features})
    if len(counts) != 1:
        found = " and ".join(str(n) for n in counts) or "none"
        raise InputError(f"features: all have to be of the same examples, in the same order; found {found}")
    return counts[0]


def _noise_of(origin: np.ndarray) -> float:
    """The squared distance from one example (d,) within which others differ from it by rounding alone."""
    step = ROUNDING_STEPS * np.finfo(origin.dtype).eps if origin.dtype.kind == "f" else 0.0
    return float(np.square(step * origin.astype(np.float64)).sum())


def _packed_gram(features: np.ndarray) -> np.ndarray:
    """The upper triangle, in double precision, of the Gram matrix of centered features; all 0 if they are constant."""
    x = _as_features(features)
    with np.errstate(all="ignore"):
        moved = np.subtract(x, x[0], dtype=np.float64)
        if np.square(moved).sum() <= len(x) * _noise_of(x[0]):
            moved[:] = 0.0
        moved -= moved.mean(axis=0)
        return (moved @ moved.T)[np.triu_indices(len(x))]


def _examples_of(grams: Sequence[np.ndarray]) -> int:
    """The n of M vectors of length n (n + 1) / 2."""
    if len({np.shape(gram) for gram in grams}) != 1 or np.ndim(grams[0]) != 1:
        raise InputError("grams: have to be upper triangles as vectors, all of the same examples")
    count = (int(np.sqrt(8 * len(grams[0]) + 1)) - 1) // 2
    if count * (count + 1) // 2 != len(grams[0]):
        raise InputError(f"grams: {len(grams[0])} numbers are no upper triangle with its diagonal")
    return count


def _check_enough(count: int, debiased: bool) -> None:
    if count < (4 if debiased else 2):
        raise InputError(f"features: {'debiased CKA needs 4' if debiased else 'CKA needs 2'} examples, not {count}")


def _inner_products(grams: np.ndarray | Sequence[np.ndarray], debiased: bool) -> tuple[np.ndarray, np.ndarray]:
    """(M, P) triangles -> n(n-3) HSIC_1 or (n-1)^2 HSIC_0 (M, M), and what of each squared norm is rounding (M,)."""
    count, grams = _examples_of(grams), np.asarray(grams)
    _check_enough(count, debiased)
    first, second = np.triu_indices(count)
    weights = np.where(first == second, 0.0 if debiased else 1.0, np.sqrt(2.0))
    products, precision = np.zeros((len(grams), len(grams))), np.result_type(grams, np.float32)
    with np.errstate(all="ignore"):
        # As shares of the largest entry, so that single precision holds their squares; it halves the time.
        largest = np.maximum(grams.max(axis=1), -grams.min(axis=1)).astype(np.float64)
        rows, level = _row_terms(grams, count, debiased)
        for start in range(0, len(first), BLOCK):
            part = slice(start, start + BLOCK)
            block = grams[:, part] - rows[:, first[part]]
            block -= rows[:, second[part]]
            block += level
            block *= weights[part]
            block /= np.where(largest > 0, largest, 1.0)[:, None]
            block = block.astype(precision, copy=False)
            products += block @ block.T
        return products * np.outer(largest, largest), (ROUNDING_STEPS * np.finfo(precision).eps * largest * count) ** 2


def _row_terms(grams: np.ndarray, count: int, debiased: bool) -> tuple[np.ndarray, np.ndarray]:
    """What centering takes off every row and column (M, n), and then adds to every entry (M, 1)."""
    sums, start = np.zeros((len(grams), count)), 0
    for row in range(count):
        values = grams[:, start : start + count - row]
        sums[:, row] += values[:, 1:].sum(axis=1, dtype=np.float64)
        sums[:, row + 1 :] += values[:, 1:]
        if not debiased:
            sums[:, row] += values[:, 0]
        start += count - row
    total = sums.sum(axis=1, keepdims=True)
    if debiased:
        return sums / (count - 2), total / ((count - 1) * (count - 2))
    return sums / count, total / count**2


def _cosines(products: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(M, M) inner products -> cosines; NaN where a squared norm is not above its rounding noise (M,)."""
    squared = np.diagonal(products)
    with np.errstate(invalid="ignore"):
        norms = np.sqrt(np.where(squared > noise, squared, np.nan))
        return np.clip(products / norms / norms[:, None], -1.0, 1.0)


def _with_norms(x: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, d + 2): every example seen from the origin (against cancellation), its squared norm, and 1."""
    moved = np.subtract(x, origin, dtype=np.float64)
    return np.column_stack([moved, np.square(moved).sum(axis=1), np.ones(len(moved))])


def _centered_moments(moments: np.ndarray) -> np.ndarray:
    """Second moments of (x, |x|^2, 1) with (y, |y|^2, 1) -> those of the same with x and y centered."""
    for _ in ("x", "y"):
        mean = moments[:-2, -1] / moments[-1, -1]
        turned = moments.copy()
        turned[:-2] -= np.outer(mean, moments[-1])
        turned[-2] += mean @ mean * moments[-1] - 2 * mean @ moments[:-2]
        moments = turned.T
    return moments


def _cka_of_moments(moments: dict[tuple[int, int], np.ndarray], origin_noise: np.ndarray, debiased: bool) -> np.ndarray:
    products, noise = np.zeros((len(origin_noise),) * 2), np.zeros(len(origin_noise))
    for (i, j), raw in moments.items():
        count = raw[-1, -1]
        _check_enough(int(count), debiased)
        with np.errstate(all="ignore"):
            turned = _centered_moments(raw)
            found = aligned = np.square(turned[:-2, :-2]).sum()
            if debiased:
                found = aligned - count / (count - 2) * turned[-2, -2]
                found += turned[-2, -1] * turned[-1, -2] / ((count - 1) * (count - 2))
            products[i, j] = products[j, i] = found
            if i == j:
                constant = raw[-2, -1] <= count * origin_noise[i]
                noise[i] = np.inf if constant else ROUNDING_OF_SUMS * (aligned + turned[-2, -2])
    return _cosines(products, noise)


__all__ = [
    "cka", "cka_matrix", "gram_vector", "loss_similarity", "seed_averages", "streaming_cka",
]  # fmt: skip
