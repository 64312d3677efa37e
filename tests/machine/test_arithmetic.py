"""Libraries compute in full float32 wherever a run is prepared."""

import torch

from fastplast import Experiment
from fastplast.training.setup import prepare


def test_a_prepared_run_convolves_and_multiplies_in_full_float32_by_fixed_algorithms():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False
    prepare(Experiment(seeds=1, examples=16, widths=(4, 3)))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic
