"""Matrix products: every library computes the same, into whatever memory the rows are; and what NumPy is told."""

import os
import subprocess
import sys

import pytest
import torch

from losstune.trainables import processor
from losstune.trainables.products import PRODUCTS

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512bw avx512dq avx512vl avx512cd\n\n"


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("inputs_first", [False, True], ids=["outputs first", "inputs first"])
def test_products_are_those_of_the_definition(name, inputs_first):
    """In double precision by einsum; weights and gradients are views of wider rows, as in the trainer."""
    torch.manual_seed(0)
    n, batch, i, o = 3, 5, 7, 4

    def view(rows):
        part = rows[:, 2 : 2 + i * o]
        return part.unflatten(1, (i, o)).transpose(1, 2) if inputs_first else part.unflatten(1, (o, i))

    weight, out = view(torch.randn(n, 64)), view(torch.zeros(n, 64))
    x, bias, gradient = torch.randn(n, batch, i), torch.randn(n, o), torch.randn(n, batch, o)
    products = PRODUCTS[name]
    y = torch.einsum("nbi,noi->nbo", x.double(), weight.double()) + bias.double().unsqueeze(1)
    torch.testing.assert_close(products.linear(x, weight, bias).double(), y, rtol=1e-5, atol=1e-5)
    products.by_weight(gradient, x, out)
    expected = torch.einsum("nbo,nbi->noi", gradient.double(), x.double())
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    expected = torch.einsum("nbo,noi->nbi", gradient.double(), weight.double())
    torch.testing.assert_close(products.by_input(gradient, weight).double(), expected, rtol=1e-5, atol=1e-5)
    into = torch.empty(n, batch, i)
    assert products.by_input(gradient, weight, into) is into


@pytest.mark.parametrize(
    ("cpuinfo", "before", "after"),
    [
        (AMD, None, "SKYLAKEX"), (AMD, "Haswell", "Haswell"), (AMD.replace(" avx512bw", ""), None, None),
        (AMD.replace("AuthenticAMD", "GenuineIntel"), None, None), ("", None, None),
    ],
)  # fmt: skip
def test_wide_kernels_are_asked_for_where_openblas_does_not_take_them(tmp_path, monkeypatch, cpuinfo, before, after):
    """Only on AMD processors that have the instructions, and never against what the user has set."""
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(processor, "CPUINFO", file)
    if before is None:
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_CORETYPE", before)
    processor.prefer_wide_kernels()
    assert os.environ.get("OPENBLAS_CORETYPE") == after


def test_the_first_thing_said_loads_neither_numpy_nor_torch():
    code = "import sys, losstune.trainables.processor; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
