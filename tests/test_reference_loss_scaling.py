"""The oracle of loss scaling against the table of torch.amp.GradScaler, and against torch itself."""

import numpy as np
import pytest
import torch

from reference.loss_scaling import Scaler, single

SETTINGS = {"init_scale": 2.0**16, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 3}


def test_the_table_of_an_interval_of_three():
    """Eight updates, the fourth of which is not finite."""
    machine, seen = Scaler([], SETTINGS), []
    for found in (False, False, False, True, False, False, False, False):
        machine.adjust(found)
        seen.append((machine.factor, machine.count))
    scales = [65536, 65536, 131072, 65536, 65536, 65536, 131072, 131072]
    assert seen == list(zip(scales, [1, 2, 0, 0, 1, 2, 0, 1], strict=True))


@pytest.mark.parametrize("growth", ["==", ">="])
def test_a_count_beyond_the_interval(growth):
    machine = Scaler([], SETTINGS, growth=growth)
    machine.count = 5
    machine.adjust(False)
    assert machine.factor == (2.0**17 if growth == ">=" else 2.0**16)


def test_every_history_of_ten_updates_is_that_of_torch():
    """All patterns of overflows, at scales up to the largest of float32."""
    for start in (2.0**16, 2.0**126):
        for pattern in range(0, 2**10, 7):
            machine = Scaler([], SETTINGS | {"init_scale": start})
            scale, count = torch.full((1,), start), torch.zeros(1, dtype=torch.int32)
            for update in range(10):
                found = pattern >> update & 1
                machine.adjust(bool(found))
                torch._amp_update_scale_(scale, count, torch.full((1,), float(found)), 2.0, 0.5, 3)
                assert (machine.factor, machine.count) == (scale.item(), count.item())


def test_a_scale_is_a_number_of_float32():
    assert single(1.0 + 2.0**-30) == 1.0
    assert np.isinf(single(2.0**128))
