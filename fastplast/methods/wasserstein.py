"""Wasserstein regularisation: the distribution of each layer's weights is pulled to its initial distribution."""

from torch import Tensor

from fastplast.methods.method import Method
from fastplast.networks.layout import Layout


def _sorted_weights(init: Tensor, layout: Layout) -> Tensor:
    """The quantiles Q0 of the initial weights of each matrix: `[m, P]` with every weight matrix sorted."""
    anchor = init.clone()
    for slot in layout.slots:
        if slot.is_weight:
            anchor[:, slot.slice] = init[:, slot.slice].sort(dim=1).values
    return anchor


wasserstein = Method(_sorted_weights, ranked=True)
