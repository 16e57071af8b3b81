from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import SegmentationLoss

N, C, SHAPE = 3, 4, (5, 4, 3)


def sample(n: int = N) -> tuple[Tensor, Tensor]:
    return torch.randn(n, C, *SHAPE) * 2, torch.randint(0, C, (n, 1, *SHAPE), dtype=torch.uint8)


def by_hand(logits: Tensor, labels: Tensor, weight: Sequence[float] | None = None) -> tuple[float, float]:
    """Soft Dice over the foreground (both sums smoothed by 1e-5) and cross-entropy, sample by sample."""
    weight = [1.0] * C if weight is None else weight
    dice, entropy = [], []
    for z, true in zip(logits.double().numpy(), labels[:, 0].numpy(), strict=True):
        p = np.exp(z) / np.exp(z).sum(0)
        for k in range(1, C):
            both, sums = (p[k] * (true == k)).sum(), p[k].sum() + (true == k).sum()
            dice.append(1 - (2 * both + 1e-5) / (sums + 1e-5))
        loss, total = 0.0, 0.0
        for place in np.ndindex(*SHAPE):
            k = int(true[place])
            loss -= weight[k] * np.log(p[(k, *place)])
            total += weight[k]
        entropy.append(loss / total)
    return float(np.mean(dice)), float(np.mean(entropy))


@pytest.mark.parametrize("weight", [None, [1, 1, 1, 1], [0.1, 2, 3.5, 0.7], [0, 0, 1, 0]], ids=str)
def test_by_hand(weight: list[float] | None) -> None:
    logits, labels = sample()
    terms = SegmentationLoss(C, weight)(logits, labels)
    dice, entropy = by_hand(logits, labels, weight)
    assert float(terms["dice"]) == pytest.approx(dice, abs=1e-6)
    assert float(terms["cross_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(dice + entropy, rel=1e-5)


@pytest.mark.parametrize("weight", [None, [0.1, 2, 3.5, 0.7]], ids=["equal", "weighted"])
def test_a_batch_is_the_mean_of_its_samples(weight: list[float] | None) -> None:
    """Unequal labels, so that a mean over all voxels would differ."""
    logits, labels = sample()
    labels[0] = 0
    labels[1, :, 0] = 2
    loss = SegmentationLoss(C, weight)
    whole = loss(logits, labels)
    single = [loss(logits[i : i + 1], labels[i : i + 1]) for i in range(N)]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in single]).mean())


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much() -> None:
    _, labels = sample()
    onehot = torch.nn.functional.one_hot(labels[:, 0].long(), C).movedim(-1, 1).float()
    good, bad = (SegmentationLoss(C)(40 * sign * onehot, labels) for sign in (1, -1))
    assert all(abs(float(value)) < 1e-6 for value in good.values())
    assert float(bad["dice"]) > 0.99
    assert float(bad["cross_entropy"]) == pytest.approx(40 + np.log(3), rel=1e-4)


@pytest.mark.parametrize("weight", [None, [1, 5, 5, 5], [0, 1, 1, 1]], ids=["equal", "weighted", "no background"])
@pytest.mark.parametrize("only", [None, 0, 3], ids=["all classes", "background alone", "one class alone"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_value_and_gradient_are_finite(weight: list[float] | None, only: int | None, dtype: torch.dtype) -> None:
    logits, labels = sample()
    if only is not None:
        labels[0] = only
    logits = (logits * 30).to(dtype).requires_grad_()
    terms = SegmentationLoss(C, weight)(logits, labels)
    terms["loss"].backward()
    assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in terms.values())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert bool(logits.grad[1].any())


def test_a_sample_without_weight_counts_as_nothing_in_the_cross_entropy() -> None:
    logits, labels = sample(2)
    labels[0], labels[1] = 0, 1
    terms = SegmentationLoss(C, [0, 1, 1, 1])(logits, labels)
    alone = torch.nn.functional.cross_entropy(logits[1:], labels[1].long())
    torch.testing.assert_close(terms["cross_entropy"], alone / 2)


def test_voxels_of_a_heavier_class_count_more() -> None:
    """Two voxels, both predicted at chance: weight moves the gradient from one to the other."""
    logits = torch.zeros(1, 2, 2, 1, 1, requires_grad=True)
    labels = torch.tensor([0, 1]).view(1, 1, 2, 1, 1)
    SegmentationLoss(2, [1, 3])(logits, labels)["cross_entropy"].backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0, :, 0, 0], torch.tensor([-0.5 * 1 / 4, 0.5 * 3 / 4]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_labels_of_any_type(dtype: torch.dtype) -> None:
    logits, labels = sample()
    loss = SegmentationLoss(C)
    torch.testing.assert_close(loss(logits, labels.to(dtype)), loss(logits, labels))


@pytest.mark.parametrize("weight", [[1, 1], [1, 1, 1, -0.5], [1] * 5, []], ids=str)
def test_a_wrong_weight_is_refused(weight: list[float]) -> None:
    with pytest.raises(
        InputError, match=r"class_weight=\[.*: give 4 numbers, background first, none below 0, not all 0"
    ):
        SegmentationLoss(C, weight)


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"class_weight=\[0, 0, 0, 0\]"):
        SegmentationLoss(C, [0, 0, 0, 0])
