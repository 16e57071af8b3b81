"""One of two ranks: losses and gradients through DDP; rank 0 then adds those of one process with it all."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from scripts.losses import BarlowLoss, NTXentLoss, PretrainLoss, VICRegLoss, gather_with_gradient
from scripts.networks import Encoder, PretrainNet, Projector, Reconstructor

WIDTHS = (2, 3, 4, 5, 6)
N_ANATOMIES = 4
CASES = {
    "nt_xent": (NTXentLoss, 2, torch.float64),
    "nt_xent_3_views": (NTXentLoss, 3, torch.float64),
    "nt_xent_float32": (NTXentLoss, 2, torch.float32),
    "barlow": (BarlowLoss, 2, torch.float64),
    "vicreg": (VICRegLoss, 2, torch.float64),
}
Result = dict[str, Tensor]


def step(name: str, ranks: range, world: int, *, ddp: bool) -> Result:
    """Return losses and gradients for the share of the batch that belongs to ``ranks`` of ``world``."""
    kind, n_views, dtype = CASES[name]
    torch.manual_seed(3)
    net: nn.Module = PretrainNet(
        Encoder(features=WIDTHS, dropout=0.0),
        Projector(WIDTHS, 8, 7, "levels"),
        Reconstructor(WIDTHS, (6, 5, 4, 3)),
    ).to(dtype)
    share = N_ANATOMIES // world
    mine = slice(ranks.start * share, ranks.stop * share)
    views = torch.randn(n_views, N_ANATOMIES, 1, 32, 32, 32, dtype=dtype)
    x = views[:, mine].flatten(0, 1)
    model = nn.parallel.DistributedDataParallel(net) if ddp else net  # held: its hooks die with it
    pred = model(x)
    losses = PretrainLoss(kind(n_views=n_views))(pred, x.square())
    losses["loss"].backward()
    gradients = {key: p.grad for key, p in net.named_parameters() if p.grad is not None}
    return {**{key: value.detach() for key, value in losses.items()}, **gradients}


def gathered(rank: int, world: int) -> Result:
    """Return the gathered rows and the gradient of a loss in which each rank weighs them differently."""
    x = torch.arange(6.0).reshape(3, 2).add(10 * rank).requires_grad_()
    rows = gather_with_gradient(x)
    ((rank + 1) * rows * torch.arange(1.0, 3 * world + 1)[:, None]).sum().backward()
    return {"rows": rows.detach(), "gradient": x.grad if x.grad is not None else torch.empty(0)}


def main(rank: int, world: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=world)
    results = {name: step(name, range(rank, rank + 1), world, ddp=True) for name in CASES}
    results["gather"] = gathered(rank, world)
    dist.barrier()
    dist.destroy_process_group()
    torch.save(results, folder / f"rank{rank}.pt")
    if rank == 0:
        torch.save({name: step(name, range(world), world, ddp=False) for name in CASES}, folder / "one.pt")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
