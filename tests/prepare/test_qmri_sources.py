"""Which files are taken for what, told by names alone: the files are empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.prepare.qmri_names import name_word
from scripts.prepare.qmri_sources import Scan, find_scans

HMRI = ("R1", "PD", "MTsat", "R2s_WLS1")


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "source"

    return make


def results(folder: str, base: str = "s1", kinds: tuple[str, ...] = HMRI) -> list[str]:
    return [f"{folder}/{base}_{kind}.nii" for kind in kinds]


def only(source: Path, **options: str) -> Scan:
    (scans,) = find_scans(source, **options).values()
    (scan,) = scans
    return scan


def kinds(scan: Scan) -> dict[str, str]:
    return {name: source.kind for name, source in scan.maps.items()}


@pytest.mark.parametrize(
    ("folder", "subject", "session", "group"),
    [
        ("P_01/Results", "sub-P01", None, None),
        ("P-01", "sub-P01", None, None),
        ("P01/visit 2/Results", "sub-P01", "ses-visit2", None),
        ("P01/2020/mpm/Results", "sub-P01", "ses-2020mpm", None),
        ("controls/P01/Results", "sub-P01", None, "controls"),
        ("Stroke/P01/v1/Results", "sub-P01", "ses-v1", "Stroke"),
        ("derivatives/hMRI/sub-07/ses-b/anat", "sub-07", "ses-b", None),
        ("Results", "sub-source", None, None),
        (".", "sub-source", None, None),
    ],
)
def test_hmri_folders_tell_who_was_scanned(touch, folder, subject, session, group):
    scan = only(touch(*results(folder)))
    assert (scan.subject, scan.session, scan.group) == (subject, session, group)
    assert kinds(scan) == {"pd": "PD", "r1": "R1", "r2star": "R2s_WLS1", "mtsat": "MTsat"}
    assert scan.problem is None
    assert scan.mask is None


def test_names_of_older_hmri_releases(touch):
    scan = only(touch(*results("a/Results", kinds=("R1", "A", "MT", "R2s_OLS"))))
    assert kinds(scan) == {"pd": "A", "r1": "R1", "r2star": "R2s_OLS", "mtsat": "MT"}


def test_results_come_before_supplementary_and_fits_in_a_stated_order(touch):
    source = touch(
        *results("a/Results", kinds=("R1", "PD", "R2s_OLS", "R2s_WLS1", "R2s")),
        *results("a/Results/Supplementary", kinds=("R1", "R2s", "MTsat")),
        *results("b/Results", kinds=("R1", "PD")),
        *results("b/Results/Supplementary", kinds=("R2s",)),
    )
    found = find_scans(source)
    assert sorted(found) == ["sub-a", "sub-b"]
    (first,), (second,) = found["sub-a"], found["sub-b"]
    assert kinds(first)["r2star"] == "R2s_WLS1"
    assert first.maps["r1"].path.parent.name == "Results"
    assert first.maps["mtsat"].path.parent.name == "Supplementary"
    assert kinds(second)["r2star"] == "R2s"


def test_intermediate_and_derived_images_are_no_maps(touch):
    source = touch(
        *results("a/Results"),
        "a/Results/c1s1_R1.nii",
        "a/Results/ws1_PD.nii",
        *results("a/MPMCalc"),
        *results("a/B1mapCalc"),
        *results("a/.cache"),
    )
    scan = only(source)
    assert scan.problem is None
    assert scan.maps["r1"].path.name == "s1_R1.nii"


def test_a_flat_folder_holds_a_subject_per_name(touch):
    found = find_scans(touch(*results(".", "anna"), *results(".", "ben_2")))
    assert {name: [scan.maps["pd"].path.name for scan in scans] for name, scans in found.items()} == {
        "sub-anna": ["anna_PD.nii"],
        "sub-ben2": ["ben_2_PD.nii"],
    }


def test_several_scans_in_one_subjects_folder_are_refused(touch):
    (scans,) = find_scans(touch(*results("a/Results", "run1"), *results("a/Results", "run2"))).values()
    assert all("holds the maps of several scans" in scan.problem for scan in scans[:1])
    assert "\n" not in scans[0].problem


def test_bids_maps_with_sessions_groups_and_masks(touch):
    source = touch(
        *[f"sub-02/ses-{s}/anat/sub-02_ses-{s}_acq-mpm_{k}.nii.gz" for s in "ab" for k in ("T1map", "PDmap", "MTsat")],
        "sub-02/ses-a/anat/sub-02_ses-a_desc-brain_mask.nii.gz",
        "sub-01/anat/sub-01_R1map.nii",
        "sub-01/anat/sub-01_T1map.nii",
        "sub-01/anat/sub-01_T2starmap.nii",
        "sub-01/anat/sub-01_M0map.nii",
        "sub-01/perf/sub-01_M0map.nii",
        "sub-01/anat/sub-01_T1w.nii",
    )
    (source / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tyoung\nsub-02\tn/a\n")
    found = find_scans(source)
    assert list(found) == ["sub-01", "sub-02"]
    (first,) = found["sub-01"]
    assert kinds(first) == {"pd": "M0map", "r1": "R1map", "r2star": "T2starmap"}
    assert first.group == "young"
    assert [(scan.prefix, scan.group, scan.problem) for scan in found["sub-02"]] == [
        ("sub-02_ses-a", None, None),
        ("sub-02_ses-b", None, None),
    ]
    assert kinds(found["sub-02"][0]) == {"pd": "PDmap", "r1": "T1map", "mtsat": "MTsat"}
    assert found["sub-02"][0].mask is not None
    assert found["sub-02"][1].mask is None


def test_published_maps_with_group_subject_and_mask(touch):
    files = [f"masked_{kind}.nii" for kind in ("pd", "r1", "r2s", "mt")]
    source = touch(
        *[f"HEALTHY/CS01/{name}" for name in (*files, "fg_mask.nii", "sim_mprage.nii")],
        *[f"patients-2/007/{name}" for name in files],
    )
    found = find_scans(source)
    assert [(name, scans[0].group) for name, scans in found.items()] == [
        ("sub-007", "patients-2"),
        ("sub-CS01", "HEALTHY"),
    ]
    assert kinds(found["sub-CS01"][0])["mtsat"] == "masked_mt"
    assert found["sub-CS01"][0].mask.name == "fg_mask.nii"
    assert found["sub-007"][0].mask is None


def test_a_pattern_finds_masks_from_the_folder_of_the_maps(touch):
    source = touch(*results("a/Results"), "a/masks/brain.nii", *results("b/Results"))
    found = find_scans(source, mask="../masks/brain.nii*")
    assert found["sub-a"][0].mask.name == "brain.nii"
    assert "Results has no file ../masks/brain.nii*, as --mask says" in found["sub-b"][0].problem
    touch("a/masks/brain.nii.gz")
    assert "are both brain masks" in find_scans(source, mask="../masks/brain.nii*")["sub-a"][0].problem


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (results("a/Results", kinds=("PD", "MTsat")), "a/Results has no R1 (or T1) map"),
        (["sub-1/anat/sub-1_PDmap.nii.gz"], "sub-1/anat has no R1 (or T1) map"),
        (["g/a/masked_pd.nii"], "g/a has no R1 (or T1) map"),
        (
            ["sub-1/anat/sub-1_run-1_T1map.nii", "sub-1/anat/sub-1_run-2_T1map.nii"],
            "sub-1_run-2_T1map.nii are both the T1map of one scan: keep one",
        ),
        ([*results("P_1/Results"), *results("P-1/Results")], "sub-P1 is found twice, in "),
        (["x/sub-1/anat/sub-1_R1map.nii", "y/sub-1/anat/sub-1_R1map.nii"], "sub-1 is found twice, in "),
    ],
)
def test_problems_are_one_line_that_names_the_place(touch, names, message):
    (scans,) = find_scans(touch(*names)).values()
    problems = [scan.problem for scan in scans if scan.problem]
    assert len(problems) == 1
    assert message in problems[0]
    assert "\n" not in problems[0]


def test_a_folder_without_maps_is_refused(touch):
    with pytest.raises(InputError, match=r"no quantitative maps below .*source: expected hMRI results"):
        find_scans(touch("sub-01/anat/sub-01_T1w.nii.gz", "IXI002-Guys-0828-PD.nii.gz", "notes_A.nii"))


def test_labels_hold_letters_and_digits_alone():
    assert name_word("P_01 (è)-b") == "P01b"
