"""The demo: embedded cohort, short pretraining, invariance measured beside an untrained encoder."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

__all__ = ["run_bundle", "run_demo"]

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "pretrain_seqinv" / "configs"


def run_demo(out: str | Path, *, seed: int = 0, subjects: int | None = None, max_epochs: int | None = None) -> None:
    """Run the bundle with its demo overlay, then with its evaluation overlay, all results in one folder.

    Args:
        out: the folder; a demo that was interrupted there is continued.
        seed: of cohort, weights and views.
        subjects: size of the cohort, None takes that of demo.json.
        max_epochs: length of the pretraining, None takes that of demo.json.
    """
    began = time.monotonic()
    out = Path(out)
    settings: dict[str, Any] = {
        "output_dir": str(out / "eval"),
        "ckpt_dir": str(out / "models"),
        "work_dir": str(out / "data"),
        "tracking_uri": f"sqlite:///{(out / 'mlruns.db').resolve()}",
        "seed": seed,
    }
    if subjects is not None:
        settings["embedded::subjects"] = subjects
    if max_epochs is not None:
        settings["max_epochs"] = max_epochs
    out.mkdir(parents=True, exist_ok=True)
    print(f"Demo in {out}: 1. a small simulated cohort, 2. a short SeqInv pretraining, 3. its invariance measured.")
    print("It shows that the pieces work; a few minutes at 2 mm and small width are no match for the paper's recipe.\n")
    print(f"The commands behind it:\n  {_command('demo', settings)}\n  {_command('demo evaluate', settings)}\n")
    run_bundle(["train.json", "demo.json"], settings)
    run_bundle(["train.json", "demo.json", "evaluate.json"], settings)
    pictures = sorted((out / "eval").glob("views_epoch*.png"))
    minutes, rest = divmod(round(time.monotonic() - began), 60)
    print(f"\nThe demo took {minutes} min {rest} s. Look at:")
    print(f"  weights   {out / 'models' / 'model.pt'}")
    print(f"  measures  {out / 'eval' / 'invariance.csv'}")
    print(f"  views     {pictures[-1] if pictures else out / 'eval'}")
    print(f"  MLflow    {settings['tracking_uri']}")
    print("            mlflow ui --backend-store-uri " + settings["tracking_uri"])
    print("Next, the paper's own recipe (a GPU, or much patience):")
    print("  python -m monai.bundle run --config_file bundles/pretrain_seqinv/configs/train.json")


def run_bundle(configs: list[str], settings: dict[str, Any]) -> None:
    """Run configs of the bundle, merged in their order, with ``settings`` as overrides."""
    from monai.bundle import run

    with warnings.catch_warnings():
        # monai warns whoever runs a config that configs can run code; these are ours
        warnings.filterwarnings("ignore", message=".*allow list.*")
        run(config_file=[str(CONFIGS / name) for name in configs], **settings)


def _command(overlays: str, settings: dict[str, Any]) -> str:
    names = ["train", *overlays.split()]
    files = ",".join(f"'bundles/pretrain_seqinv/configs/{name}.json'" for name in names)
    options = " ".join(f"--{key} {value}" for key, value in settings.items())
    return f'python -m monai.bundle run --config_file "[{files}]" {options}'
