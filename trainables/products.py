"""Matrix products of many members at once: PRODUCTS, the libraries that can compute them.

On some processors NumPy's OpenBLAS is more than twice as fast as the library that torch is built with, on others it is
the other way round, so both are here and which is used is measured.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class TorchProducts:
    """Products by torch, on any device and in any precision."""

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x (n, B, i) by weight (n, o, i), with bias (n, o): (n, B, o)."""
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def by_weight(gradient: Tensor, x: Tensor, out: Tensor) -> None:
        """The gradient by the weight, gradient^T x: (n, B, o), (n, B, i) to out (n, o, i)."""
        torch.bmm(gradient.transpose(1, 2), x, out=out)

    @staticmethod
    def by_input(gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """The gradient by the input, gradient weight: (n, B, o), (n, o, i) to (n, B, i)."""
        return torch.bmm(gradient, weight) if out is None else torch.bmm(gradient, weight, out=out)


class NumpyProducts:
    """The same by NumPy on a CPU in float32: a call of its BLAS for each member, so that none can touch another."""

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.empty(weight.shape[0], x.shape[1], weight.shape[1])
        np.matmul(x.numpy(), weight.transpose(1, 2).numpy(), out=y.numpy())
        return y.add_(bias.unsqueeze(1))

    @staticmethod
    def by_weight(gradient: Tensor, x: Tensor, out: Tensor) -> None:
        if out.stride(2) == 1:
            np.matmul(gradient.transpose(1, 2).numpy(), x.numpy(), out=out.numpy())
        else:  # kept transposed: only rows that are dense can be written by the BLAS
            np.matmul(x.transpose(1, 2).numpy(), gradient.numpy(), out=out.transpose(1, 2).numpy())

    @staticmethod
    def by_input(gradient: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        out = torch.empty(*gradient.shape[:2], weight.shape[2]) if out is None else out
        np.matmul(gradient.numpy(), weight.numpy(), out=out.numpy())
        return out


Products = type[TorchProducts] | type[NumpyProducts]
PRODUCTS: dict[str, Products] = {"torch": TorchProducts, "numpy": NumpyProducts}


def share_threads() -> None:
    """Give NumPy's BLAS as many threads as torch has: by itself it takes all cores, and lanes would wait for others."""
    import threadpoolctl  # which the trainer can do without

    threadpoolctl.threadpool_limits(torch.get_num_threads(), user_api="blas")
