from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.errors import InputError
from scripts.losses import NTXentLoss, PretrainLoss


def test_sums_its_two_terms() -> None:
    z, image, target = torch.randn(6, 5), torch.randn(6, 1, 4, 4, 4), torch.randn(6, 1, 4, 4, 4)
    result = PretrainLoss(NTXentLoss(), 0.5)({"embedding": z, "reconstruction": image}, target)
    l1 = np.abs(image.numpy() - target.numpy()).mean()
    assert result["l1"].item() == pytest.approx(l1, rel=1e-6)
    assert result["contrastive"].item() == pytest.approx(NTXentLoss()(z).item())
    assert result["loss"].item() == pytest.approx(NTXentLoss()(z).item() + 0.5 * l1, rel=1e-6)


def test_gradient_reaches_both_branches_through_the_loss_alone() -> None:
    z, image = torch.randn(6, 5, requires_grad=True), torch.randn(6, 1, 2, 2, 2, requires_grad=True)
    result = PretrainLoss(NTXentLoss())({"embedding": z, "reconstruction": image}, torch.zeros(6, 1, 2, 2, 2))
    assert [key for key, value in result.items() if value.requires_grad] == ["loss"]
    result["loss"].backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    torch.testing.assert_close(image.grad, image.detach().sign() / image.numel())


def test_half_precision_is_averaged_in_float32() -> None:
    image = torch.randn(4, 1, 8, 8, 8).half()
    pred = {"embedding": torch.randn(4, 5).half(), "reconstruction": image}
    target = torch.randn(4, 1, 8, 8, 8)
    l1 = np.abs(image.double().numpy() - target.double().numpy()).mean()
    results = [PretrainLoss(NTXentLoss())(pred, t) for t in (target, target.half())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results.append(PretrainLoss(NTXentLoss())(pred, target))
    assert {value.dtype for result in results for value in result.values()} == {torch.float32}
    assert results[0]["l1"].item() == pytest.approx(l1, rel=1e-6)
    assert results[2] == results[0]


def test_refuses_a_target_of_other_shape() -> None:
    pred = {"embedding": torch.randn(4, 5), "reconstruction": torch.zeros(4, 1, 2, 2, 2)}
    with pytest.raises(InputError, match=r"target: has shape \(4, 1, 2, 2, 4\), the reconstruction \(4, 1, 2, 2, 2\)"):
        PretrainLoss(NTXentLoss())(pred, torch.zeros(4, 1, 2, 2, 4))
