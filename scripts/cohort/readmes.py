"""What cohorts say about themselves, each in its README."""

from __future__ import annotations

__all__ = ["ARC", "ARC_LABEL_MAPS", "IXI", "IXI_LABEL_MAPS", "QMRI_LABEL_MAPS"]

QMRI_LABEL_MAPS = """Embedded qMRI cohort from label maps (simulated)

These are not measurements of people. Quantitative maps of proton density (PDmap), R1 (R1map), R2* (R2starmap), R2
(R2map) and magnetisation transfer saturation (MTsat) were simulated at 3 T from label maps of individual people's
heads, which the user gave: participants.tsv names the map of each subject as its person. The first head of a person
is nearly that anatomy, the next ones are smooth deformations of it. Subjects of one person must stay on one side of
any split. Tissue values are from the literature; those of what surrounds the brain, and of lesions, are assumptions.

dseg.tsv names the labels of *_dseg.nii.gz; *_desc-lesion_mask.nii.gz marks the lesion. Maps are 0 outside {what}.
cohort.json holds the settings: the same settings and label maps give the same bytes.
"""

IXI_LABEL_MAPS = """Embedded IXI-like cohort from label maps (simulated)

These are not measurements of people. T1, T2 and PD images were simulated from label maps of individual people's
heads, which the user gave, smoothly deformed, with tissue values from the literature; participants.tsv names the map
of each subject as its person. Names, grids, field strengths and, where published, timings are those of the IXI
dataset (https://brain-development.org/ixi-dataset/), of which nothing is contained; IOP's are made up. c1, c2 and c3
beside each image are the shares of grey matter, white matter and fluid that it was made of, named as SPM names its
maps. cohort.json holds the settings: the same settings and label maps give the same bytes.
"""

ARC_LABEL_MAPS = """Embedded ARC-like cohort from label maps (simulated)

These are not measurements of people. T1w, T2w and FLAIR images of whole heads with a stroke lesion were simulated from
label maps of individual people's heads, smoothly deformed, and masks of lesions in MNI space, both of which the user
gave, with tissue values from the literature; the values of lesions are an assumption. participants.tsv names the label
map of each subject as its person. Names and layout are those of the Aphasia Recovery Cohort (OpenNeuro ds004884,
version 1.0.2), of which nothing is contained: one lesion mask a subject, on the grid of the T2w of its session; not
every subject has every modality. cohort.json holds the settings: the same settings and files give the same bytes.
"""

IXI = """Embedded IXI-like cohort (simulated)

These are not measurements of people. T1, T2 and PD images of whole heads were simulated from the ICBM 2009a
nonlinear symmetric average brain (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033), deformed and refolded
for each subject, with tissue values from the literature and a coarse simulated head around it. Names, grids, field
strengths and, where published, timings are those of the IXI dataset (https://brain-development.org/ixi-dataset/), of
which nothing is contained; IOP's are made up. c1, c2 and c3 beside each image are the shares of grey matter, white
matter and fluid that it was made of, named as SPM names its maps. cohort.json holds the settings: the same settings
give the same bytes.
"""

ARC = """Embedded ARC-like cohort (simulated)

These are not measurements of people. T1w, T2w and FLAIR images of whole heads with a chronic stroke lesion were
simulated from the ICBM 2009a nonlinear symmetric average brain (Fonov et al. 2011,
doi:10.1016/j.neuroimage.2010.07.033), deformed and refolded for each subject, with tissue values from the
literature; the values of lesions are an assumption. Names and layout are those of the Aphasia Recovery Cohort
(OpenNeuro ds004884, version 1.0.2), of which nothing is contained: one lesion mask a subject, on the grid of the T2w
of its session; not every subject has every modality. cohort.json holds the settings: the same settings give the
same bytes.
"""
