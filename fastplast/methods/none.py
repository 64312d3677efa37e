"""No method: plain training."""

from fastplast.methods.pull import Method

none = Method(anchor=None, ranked=False, summary="plain training", reference="")
