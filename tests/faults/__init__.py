"""The fault harness: real studies, real processes, and what may happen to them; `make faults` runs all of it.

A row is one fault in one phase of one study: the study is begun, struck at a random moment, run again until it is done,
and compared with what an undisturbed run found.
"""

from losstune.trainables.processor import prefer_wide_kernels

prefer_wide_kernels()  # before NumPy is loaded, as lanes do: what they compute is compared in bits
