"""What only a CUDA device can show; ``pytest -m gpu`` runs this and the other tests with that mark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from scripts.benchmark.kill_resume import kill_and_resume
from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.inferers.autocast import AutocastInferer, has_bfloat16
from scripts.losses import NTXentLoss
from scripts.losses.gather import gather_views
from scripts.networks import Encoder, PretrainNet, Projector, Reconstructor
from scripts.networks.acceleration import accelerate
from scripts.views import ViewGenerator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

WIDTHS = (16, 16, 32, 32, 64)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture
def network() -> PretrainNet:
    torch.manual_seed(0)
    return PretrainNet(Encoder(features=WIDTHS, dropout=0.0), Projector(WIDTHS), Reconstructor(WIDTHS, (16, 8, 8, 4)))


def maps(n: int, side: int) -> torch.Tensor:
    """Ellipsoids of white matter in grey matter, (n, 4, side, side, side)."""
    axis = torch.linspace(-1, 1, side)
    r = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0)
    grey, white = (torch.tensor(v).view(4, 1, 1, 1) for v in ((80.0, 0.62, 17.0, 0.85), (70.0, 0.95, 21.0, 1.55)))
    return torch.where(r < 0.3, white, torch.where(r < 0.9, grey, torch.zeros(4, 1, 1, 1))).expand(n, -1, -1, -1, -1)


def test_views_with_maps_equal_those_of_the_cpu(device: torch.device) -> None:
    views = ViewGenerator("seqinv", 32, ranges={"noise_probability": 0.0, "transmit": 0.1})
    params = views.draw(3, step=5)
    region = maps(3, views.region_size)
    here, there = (views.apply(m, params, with_maps=True) for m in (region, region.to(device)))
    for name in ("target", "image", "maps"):
        off = (there[name].cpu() - here[name]).abs()
        # on the edge of the foreground, rounding decides whether a voxel belongs to it
        assert off.mean() < 2e-3 * here[name].std(), name
        assert (off > 0.05 * here[name].std()).float().mean() < 1e-3, name


def test_views_do_not_wait_for_the_device(device: torch.device) -> None:
    views = ViewGenerator("seqinv", 32)
    region = maps(4, views.region_size).to(device)
    views(region, step=0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = views(region, step=1)  # a wait raises
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made["image"].isfinite().all()


def test_the_contrastive_loss_is_in_float32_under_autocast(device: torch.device) -> None:
    z = torch.randn(16, 64, device=device)
    z[8:] = z[:8] + 1e-3 * torch.randn(8, 64, device=device)  # bfloat16 could not tell them apart
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = NTXentLoss(temperature=0.05)(z)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.cpu().double(), NTXentLoss(temperature=0.05)(z.cpu().double()), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fast_step_is_that_of_float32(network: PretrainNet, device: torch.device, compiled: bool) -> None:
    x = torch.randn(4, 1, 48, 48, 48, device=device)
    plain = {k: v.detach() for k, v in network.to(device)(x).items()}
    fast = accelerate(network, device, channels_last=True, compiled=compiled)
    from monai.inferers import SimpleInferer

    made = AutocastInferer(SimpleInferer(), amp=True)(x, fast)
    assert has_bfloat16("cuda")
    for name, value in plain.items():
        assert (made[name].float() - value).norm() < 0.1 * value.norm(), name
    sum(v.float().square().mean() for v in made.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, device: torch.device) -> None:
    make_qmri_cohort(tmp_path / "cohort", 8, 0, 4.0, progress=False)
    found = kill_and_resume(tmp_path, device, batch_size=4)
    assert 2 <= found["killed_after"] < found["of_epochs"] == found["resumed_after"]
    assert found["largest_difference"] < 1e-3


@pytest.fixture
def one_process(tmp_path) -> Iterator[None]:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_nccl_with_one_process_equals_none(one_process: None, network: PretrainNet, device: torch.device) -> None:
    z = torch.randn(8, 16, device=device)
    torch.testing.assert_close(gather_views(z, 2), z.view(2, 4, 16))
    network = network.to(device)
    x = torch.randn(4, 1, 32, 32, 32, device=device)
    torch.backends.cudnn.deterministic = True
    try:
        gradients = []
        for model in (network, nn.parallel.DistributedDataParallel(network, device_ids=[device.index or 0])):
            network.zero_grad(set_to_none=True)
            out = model(x)
            (NTXentLoss()(out["embedding"]) + out["reconstruction"].abs().mean()).backward()
            gradients.append([p.grad.clone() for p in network.parameters()])
    finally:
        torch.backends.cudnn.deterministic = False
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_weights_of_a_gpu_load_on_a_cpu(network: PretrainNet, device: torch.device, tmp_path) -> None:
    from scripts.handlers.checkpoint import save_tensors

    fast = accelerate(network, device, channels_last=True)
    path = save_tensors(fast.state_dict(), tmp_path / "model.pt")
    again = PretrainNet(Encoder(features=WIDTHS, dropout=0.0), Projector(WIDTHS), Reconstructor(WIDTHS, (16, 8, 8, 4)))
    again.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    x = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        here, there = again.eval()(x), fast.eval()(x.to(device))
    for name, value in here.items():
        assert (there[name].cpu() - value).norm() < 1e-2 * value.norm(), name


def test_a_scripted_encoder_runs_on_the_device(network: PretrainNet, device: torch.device, tmp_path) -> None:
    encoder = network.encoder.to(device).eval()
    x = torch.randn(1, 1, 32, 32, 32, device=device)
    with torch.no_grad():
        traced = torch.jit.trace(encoder, x)
        traced.save(str(tmp_path / "encoder.ts"))
        again = torch.jit.load(str(tmp_path / "encoder.ts"), map_location="cuda")
        torch.testing.assert_close(again(x), encoder(x), rtol=1e-3, atol=1e-3)
