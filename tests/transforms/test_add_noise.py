from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from scripts.errors import InputError
from scripts.transforms.add_noise import AddNoised


def entry(subject: str = "a", size: int = 24) -> dict[str, Any]:
    values = torch.randn(1, size, size, size, generator=torch.Generator().manual_seed(1))
    meta = {"filename_or_obj": "x.nii", "mean": 3.0, "deviation": 2.0}
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1], dtype=torch.float64))
    return {"subject": subject, "image": MetaTensor(values, affine=affine, meta=meta)}


def plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


@pytest.mark.parametrize("sigma", [0.2, 1.5])
def test_white_noise_of_the_deviation_asked_for(sigma: float) -> None:
    """24^3 samples: mean and deviation scatter by 1 % and 0.6 % of sigma, a correlation by 1 %."""
    clean = entry()["image"]
    done = AddNoised("image", sigma, clean_key="clean").set_random_state(0)(entry())
    noise = plain(done["label"])[0].double().numpy()
    assert abs(noise.mean()) < 0.04 * sigma
    assert noise.std() == pytest.approx(sigma, rel=0.025)
    for axis in range(3):
        assert abs((noise * np.roll(noise, 1, axis)).mean()) < 0.04 * sigma**2
    assert abs(np.corrcoef(noise.ravel(), plain(clean).numpy().ravel())[0, 1]) < 0.04
    assert (noise**4).mean() / noise.std() ** 4 == pytest.approx(3, abs=0.25)  # Gaussian


def test_the_label_is_what_was_added_and_the_clean_image_is_kept() -> None:
    given = entry()
    before = plain(given["image"]).clone()
    done = AddNoised("image", 0.2, label_key="noise", clean_key="clean").set_random_state(3)(given)
    torch.testing.assert_close(plain(done["image"]) - before, plain(done["noise"]), rtol=0, atol=1e-6)
    assert torch.equal(plain(done["clean"]), before)
    assert torch.equal(plain(given["image"]), before)
    assert done["image"].dtype == done["noise"].dtype == torch.float32
    assert done["noise"].shape == before.shape
    assert torch.equal(done["image"].affine, given["image"].affine)
    assert (done["image"].meta["mean"], done["image"].meta["filename_or_obj"]) == (3.0, "x.nii")
    assert "clean" not in AddNoised("image")(entry())


def test_a_seed_gives_each_subject_its_own_noise_whatever_came_before() -> None:
    add = AddNoised("image", seed=5)
    first = add(entry("a"))["label"]
    other = add(entry("b"))["label"]
    assert torch.equal(add.set_random_state(9)(entry("a"))["label"], first)
    assert torch.equal(AddNoised("image", seed=5)(entry("a"))["label"], first)
    assert not torch.equal(other, first)
    assert not torch.equal(AddNoised("image", seed=6)(entry("a"))["label"], first)
    torch.testing.assert_close(AddNoised("image", 0.4, seed=5)(entry("a"))["label"], 2 * first)


def test_without_a_seed_the_random_state_decides() -> None:
    add = AddNoised("image").set_random_state(4)
    first, second = add(entry())["label"], add(entry())["label"]
    assert not torch.equal(first, second)
    assert torch.equal(add.set_random_state(4)(entry())["label"], first)
    assert not torch.equal(add.set_random_state(5)(entry())["label"], first)


def test_a_plain_tensor_stays_one() -> None:
    done = AddNoised("image", seed=0)({"image": torch.zeros(1, 3, 3, 3)})
    assert not isinstance(done["image"], MetaTensor)
    assert torch.equal(done["image"], done["label"])


@pytest.mark.parametrize("sigma", [0, -0.2, float("nan")])
def test_a_deviation_that_is_none_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match=r"sigma=.*: the noise needs a deviation above 0"):
        AddNoised("image", sigma)
