"""Networks of the paper's sizes trained on real images: `auto` beside all eigenvalues."""

import pytest
import torch
from tails import real_tail

from fastplast.curvature import measure_labels
from fastplast.curvature.tail import ACTIVATIONS


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["mnist_shuffle", "cifar_shuffle"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_gives_the_rank_to_one_or_one_percent_at_task_end_and_next_start(problem, activation):
    tail, following = real_tail(problem, activation)
    labels = (tail.labels, following)
    for exact, found in zip(measure_labels(tail, labels), measure_labels(tail, labels, method="auto")):
        assert exact.method == ("exact",)
        assert 1 < int(exact.srank) < int(exact.dimension)
        assert bool(exact.verified)
        assert bool(found.verified)
        assert int(found.srank_lo) <= int(exact.srank) <= int(found.srank_hi)
        assert int(found.srank_hi - found.srank_lo) <= max(1, int(found.srank_hi) // 100)
        assert float((exact.eigenvalues[0].sum() - exact.trace).abs()) < 1e-9 * float(exact.nuclear_norm)
        assert torch.equal(exact.eigenvalues[0], exact.eigenvalues[0].sort().values)
