"""torch's CPU generator is the oracle of our noise."""

import numpy as np
import pytest

from nerite.diffusion.noise import TorchGenerator

torch = pytest.importorskip("torch")

SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32 + 5, 2**63 - 1, -1, -7, -(2**63)]


def torch_draws(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator).numpy() for size in sizes]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_stream_is_torchs_over_several_draws(seed):
    # 16 and 1024 are whole blocks, 17 and 1003 have ragged tails, 3 and 15 go one by one.
    sizes = [(16,), (17,), (1, 4, 16, 16), (3,), (1003,), (15,), (1, 8, 2), (2,)]
    generator = TorchGenerator(seed)
    for expected in torch_draws(seed, sizes):
        drawn = generator.normal(expected.shape)
        assert drawn.dtype == np.float32
        np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-6)


def test_only_the_low_32_bits_of_a_seed_count():
    low = TorchGenerator(5).normal((64,))
    assert (TorchGenerator(2**32 + 5).normal((64,)) == low).all()
    assert not (TorchGenerator(6).normal((64,)) == low).any()
    assert (TorchGenerator(-1).normal((64,)) == TorchGenerator(2**32 - 1).normal((64,))).all()


def test_every_size_around_the_block_border_agrees():
    for size in range(1, 70):
        np.testing.assert_allclose(
            TorchGenerator(11).normal((size,)), torch_draws(11, [(size,)])[0], rtol=0, atol=1e-6
        )
