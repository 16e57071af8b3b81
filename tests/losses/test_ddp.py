from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from tests.commands.client import Commands

HERE = Path(__file__).parent
Results = dict[str, dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> dict[str, Results]:
    """What two processes over gloo found, and one process with the global batch."""
    folder = tmp_path_factory.mktemp("ddp")
    root = HERE.parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    words = [sys.executable, str(HERE / "ddp_worker.py")]
    with (folder / "errors").open("w+") as errors:
        ranks = [
            commands.start([*words, str(rank), "2", str(folder)], cwd=root, env=environment, stderr=errors)
            for rank in range(2)
        ]
        try:
            assert [process.wait(900) for process in ranks] == [0, 0], (folder / "errors").read_text()
        finally:
            for process in ranks:
                process.kill()
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("rank0", "rank1", "one")}


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        ("nt_xent", 1e-10),
        ("nt_xent_3_views", 1e-10),
        ("barlow", 1e-10),
        ("vicreg", 1e-10),
        ("nt_xent_float32", 1e-5),  # convolutions add up two half batches in another order
    ],
)
@pytest.mark.parametrize("rank", ["rank0", "rank1"])
def test_two_ranks_equal_one_process(results: dict[str, Results], case: str, tolerance: float, rank: str) -> None:
    found, expected = results[rank][case], results["one"][case]
    assert found.keys() == expected.keys()
    assert sum("." in key for key in expected) == 34  # parameters, beside the three losses
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}")


def test_gather_is_in_rank_order_and_sums_gradients(results: dict[str, Results]) -> None:
    mine = torch.arange(6.0).reshape(3, 2)
    for rank in range(2):
        found = results[f"rank{rank}"]["gather"]
        assert torch.equal(found["rows"], torch.cat([mine, mine + 10]))
        weights = torch.arange(1.0, 7.0)[3 * rank : 3 * rank + 3, None].expand(3, 2)
        assert torch.equal(found["gradient"], (1 + 2) * weights)
