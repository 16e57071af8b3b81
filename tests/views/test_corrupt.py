from __future__ import annotations

import numpy as np
import torch

from scripts.views import normalise
from scripts.views.corrupt import blank_mask, corrupt, truncate_k_space


def test_truncation_equals_a_naive_fourier_sum():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, 1, 8, 7, 6), generator=generator, dtype=torch.float64)
    kept = torch.tensor([[0.5, 1.0, 0.7], [0.3, 0.6, 1.0]], dtype=torch.float64)
    got = truncate_k_space(image, kept)
    for n in range(2):
        spectrum = np.fft.fftn(image[n, 0].numpy())
        for index in np.ndindex(*spectrum.shape):
            for axis, size in enumerate(spectrum.shape):
                frequency = min(index[axis], size - index[axis]) / size
                if frequency > float(kept[n, axis]) / 2:
                    spectrum[index] = 0
        np.testing.assert_allclose(got[n, 0].numpy(), np.fft.ifftn(spectrum).real, atol=1e-12)


def test_keeping_all_of_k_space_changes_nothing():
    image = torch.rand(1, 1, 9, 8, 10)
    torch.testing.assert_close(truncate_k_space(image, torch.ones(1, 3)), image)


def test_an_edge_rings():
    image = torch.zeros(1, 1, 4, 4, 64)
    image[..., 16:48] = 1
    ringing = truncate_k_space(image, torch.tensor([[1.0, 1.0, 0.5]]))
    overshoot = float(ringing.max()) - 1
    assert 0.05 < overshoot < 0.12  # the Gibbs constant is 0.0895


def test_blanked_cuboids_equal_slices():
    cuboids = torch.tensor([[[[1, 4], [0, 3], [2, 7]], [[5, 6], [5, 8], [0, 9]]], [[[0, 0]] * 3, [[2, 2]] * 3]])
    expected = torch.zeros(2, 1, 9, 8, 10, dtype=torch.bool)
    expected[0, 0, 1:4, 0:3, 2:7] = True
    expected[0, 0, 5:6, 5:8, 0:9] = True
    assert torch.equal(blank_mask(cuboids.float(), (9, 8, 10)), expected)


def test_noise_is_relative_to_the_foreground_and_blanks_are_dark():
    signal = torch.zeros(1, 1, 40, 40, 40)
    signal[..., 10:30, 10:30, 10:30] = 0.5
    params = {
        "bias": torch.zeros(1, 4, 4, 4, 1),
        "gibbs": torch.ones(1, 3),
        "noise": torch.tensor([0.1]),
        "cuboids": torch.tensor([[[[12.0, 16.0]] * 3]]),
    }
    noise = torch.randn((2, *signal.shape), generator=torch.Generator().manual_seed(0))
    image, seen = corrupt(signal, signal > 0, params, noise)
    inside = image[seen]
    assert abs(inside.std() - 0.05) < 0.003
    background = image[signal == 0]
    # the mean of a Rayleigh distribution
    assert abs(background.mean() - 0.05 * (torch.pi / 2) ** 0.5) < 0.002
    assert (image[..., 12:16, 12:16, 12:16] == 0).all()
    assert int(seen.sum()) == 20**3 - 4**3


def test_normalise_against_numpy():
    generator = torch.Generator().manual_seed(1)
    image = 300 + 40 * torch.randn((2, 1, 5, 6, 7), generator=generator)
    mask = torch.rand((2, 1, 5, 6, 7), generator=generator) > 0.4
    got = normalise(image, mask)
    for n in range(2):
        values = image[n][mask[n]].double().numpy()
        expected = (image[n].double().numpy() - values.mean()) / values.std()
        np.testing.assert_allclose(got[n].numpy(), expected, atol=1e-4)


def test_normalise_leaves_empty_and_constant_images_finite():
    image = torch.stack([torch.zeros(1, 4, 4, 4), torch.full((1, 4, 4, 4), 7.0)])
    got = normalise(image, image > 0)
    assert torch.isfinite(got).all()
    assert (got == 0).all()
