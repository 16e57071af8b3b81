"""What the numbers of a grid cannot say."""

from __future__ import annotations

from scripts.experiment.results.collect import Results

__all__ = ["limits"]

_SIMULATED = (
    (
        "Simulated heads stand in for patients",
        "one averaged anatomy, warped per subject, with tissue values from the literature, three made-up scanners and "
        "simple lesions. Its labels are the shares that the heads were made of. So the absolute numbers say nothing "
        "about IXI, ARC or any patient, and are not to be set beside the paper's.",
    ),
    (
        "What can be seen",
        "whether the three ways of making views, trained alike and tested alike, differ in the direction that the "
        "paper reports, and whether the pieces work from the maps to the table.",
    ),
    (
        "What cannot",
        "how large any difference is on patients, and anything about lesions as they really look.",
    ),
)
_SHORT = (
    "A small network",
    "on small patches, pretrained and trained for minutes: a variant that needs longer to pay off looks worse here "
    "than it is.",
)
_SMALL = 64  # voxels of a patch below which the training is a small one
_ONE_SEED = (
    "One seed",
    "intervals and tests are over test subjects; they say nothing about how much a second training of the same recipe "
    "would differ.",
)


def limits(results: Results) -> list[tuple[str, str]]:
    """Return what the numbers of a grid cannot say, as headings and sentences."""
    runs = results.runs
    found = list(_SIMULATED) if "embedded" in set(runs["cohort"]) else []
    found += [_SHORT] if 0 < runs["patch_size"].min() < _SMALL else []
    return found + ([_ONE_SEED] if runs["seed"].nunique() == 1 else [])
