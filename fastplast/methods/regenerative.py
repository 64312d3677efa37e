"""Regenerative regularisation: each weight is pulled to its own initial value."""

from fastplast.methods.pull import Method

regenerative = Method(
    anchor=lambda init, layout: init.clone(),
    ranked=False,
    summary="each weight is pulled to its initial value (L2 init)",
    reference="Kumar, Marklund, Van Roy 2023, arXiv 2308.11958",
)
