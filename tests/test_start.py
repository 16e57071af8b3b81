"""A run says early that it has begun; freed memory stays with the process: its pages are not asked for again."""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from tests.commands.client import Commands

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import resource, sys, torch
from scripts.start import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(6):  # until there is room for a tensor and what its alignment takes
    last = faults()
print(last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_pages_of_a_freed_tensor_are_used_again(commands: Commands) -> None:
    def faults(how: str) -> int:
        return int(commands.run([sys.executable, "-c", CODE, how], cwd=ROOT).stdout)

    size = 5 * (32 << 20) // 4096  # pages of five tensors of 32 MiB
    assert faults("leave") > size / 600  # huge pages of 2 MiB count once
    assert faults("keep") < 20


@pytest.mark.parametrize("config", ["train", "inference"])
@pytest.mark.parametrize("bundle", BUNDLE_NAMES)
def test_a_run_says_that_it_has_begun_before_it_makes_anything(
    bundle: str, config: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = BUNDLES / bundle
    workflow = ConfigWorkflow(str(folder / "configs" / f"{config}.json"), bundle_root=str(folder), logging_file=False)
    workflow.parser.parse()
    caplog.clear()
    with caplog.at_level(logging.INFO, "scripts.start"):
        workflow.parser.get_parsed_content("run::0")
    assert caplog.messages == [f"{bundle}: getting data and network ready"]
    assert not {"data", "network", "encoder", "weights"} & workflow.parser.ref_resolver.resolved_content.keys()
