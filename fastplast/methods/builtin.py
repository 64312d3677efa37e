"""Methods whose anchor is fixed in place."""

from __future__ import annotations

import torch

from fastplast.methods.method import Method

none = Method()
l2 = Method(lambda init, layout: torch.zeros_like(init))
regenerative = Method(lambda init, layout: init.clone())
