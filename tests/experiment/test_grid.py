from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.experiment.grid.cells import Cell, Choice, expand
from scripts.experiment.grid.presets import PRESETS, Preset, load_preset

DATA = {"qmri": "a", "ixi": "b", "arc": "c"}
ROOT = Path(__file__).resolve().parents[2]


def names(cells: list[Cell]) -> list[str]:
    return [cell.name for cell in cells]


@pytest.fixture
def gpu() -> Preset:
    """Three variants with an encoder and one without, three modalities and two fractions; one seed of it."""
    return replace(load_preset("gpu"), seeds=(0,))


class TestPresets:
    def test_mini_trains_every_recipe_on_one_labelled_person_three_times(self) -> None:
        mini = load_preset("mini")
        cells = [cell for cell in expand(mini, Choice(tasks=["ixi_seg"]), DATA) if cell.task == "ixi_seg"]
        assert {(c.modality, c.fraction, c.tested_on) for c in cells} == {("T1w", 0.05, ("T2w", "PDw", "FLAIR"))}
        assert {c.variant for c in cells} == set(mini.variants) >= {"scratch", "simulated", "base", "seqinv", "random"}
        assert {c.seed for c in cells} == {0, 1, 2}
        assert len(cells) == 3 * len(mini.variants)
        assert all(c.settings["patience"] < c.settings["min_epochs"] < c.settings["max_epochs"] for c in cells)

    def test_quick_is_a_part_of_mini_in_a_few_runs(self) -> None:
        cells = expand(load_preset("quick"), Choice(), DATA)
        assert [(c.task, c.variant) for c in cells] == [
            ("pretrain", "seqinv-maps"),
            ("ixi_seg", "scratch"),
            ("ixi_seg", "simulated"),
            ("ixi_seg", "maps-simulated"),
        ]
        assert set(load_preset("quick").recipes) < set(load_preset("mini").recipes)

    def test_the_paper_has_every_cell_of_its_tables(self) -> None:
        cells = expand(load_preset("paper"), Choice(), DATA)
        tables = [c for c in cells if c.variant in ("base", "seqaug", "seqinv") and c.task != "pretrain"]
        # Table 1 and 3: 3 modalities, 3 fractions; Table 2: 3 modalities; 3 variants each
        assert len(tables) == 27 + 9 + 27
        assert {c.variant for c in cells} == {"base", "seqaug", "seqinv", "random", "scratch"}

    def test_gpu_has_three_seeds_of_the_full_size_in_runs_under_nine_minutes(self) -> None:
        cells = expand(load_preset("gpu"), Choice(), DATA)
        assert {c.seed for c in cells} == {0, 1, 2}
        assert not any({"features", "patch_size", "spacing"} & set(c.settings) for c in cells)
        assert max(c.seconds for c in cells) < 540

    @pytest.mark.parametrize("name", PRESETS)
    def test_every_setting_is_a_key_of_its_bundle(self, name: str) -> None:
        for cell in expand(load_preset(name), Choice(study=True), DATA):
            configs = ROOT / "bundles" / cell.bundle / "configs"
            files = ("train.json", *cell.configs, "evaluate.json")
            known = {key for file in files for key in json.loads((configs / file).read_text())}
            assert set(cell.settings) <= known
            assert all((configs / overlay).is_file() for overlay in cell.configs)

    def test_a_file_of_another_form_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "own.json"
        path.write_text('{"variants": []}')
        with pytest.raises(InputError, match=r"own\.json is no preset \(KeyError\('_desc_'\)\)"):
            load_preset(path)
        with pytest.raises(InputError, match="'maxi' is unknown: choose quick, mini, gpu, paper"):
            load_preset("maxi")


class TestChoice:
    def test_options_are_typed_as_they_were_chosen(self) -> None:
        assert Choice().options() == ""
        chosen = Choice(tasks=["ixi_seg"], variants=["base", "seqinv"], fractions=[0.01, 1.0], seeds=[0, 1], study=True)
        told = " --task ixi_seg --variant base,seqinv --label_fraction 0.01,1.0 --seeds 0,1 --study"
        assert chosen.options() == told


class TestExpand:
    def test_pretrainings_come_first_and_each_cell_names_its_own(self, gpu: Preset) -> None:
        cells = expand(gpu, Choice(seeds=(0, 1)), DATA)
        first = [cell.task for cell in cells].index("ixi_seg")
        assert {cell.task for cell in cells[:first]} == {"pretrain"}
        made = {(cell.variant, cell.seed): cell.name for cell in cells[:first]}
        for cell in cells[first:]:
            assert cell.encoder == made.get((cell.variant, cell.seed), "")
            assert cell.settings.get("encoder") == {"random": "random"}.get(cell.variant)

    def test_names_are_unique_and_stay(self, gpu: Preset) -> None:
        cells = expand(gpu, Choice(study=True), DATA)
        assert len(set(names(cells))) == len(cells)
        assert names(cells) == names(expand(gpu, Choice(study=True), DATA))

    def test_a_task_brings_the_pretrainings_that_it_needs(self, gpu: Preset) -> None:
        cells = expand(gpu, Choice(tasks=["arc_lesion"], variants=["seqinv", "random"], modalities=["FLAIR"]), DATA)
        assert [(c.task, c.variant) for c in cells] == [
            ("pretrain", "seqinv"),
            ("arc_lesion", "seqinv"),
            ("arc_lesion", "random"),
        ]

    def test_scratch_needs_no_encoder(self, gpu: Preset) -> None:
        cells = expand(gpu, Choice(tasks=["ixi_denoise"], variants=["scratch"], modalities=["T1w"]), DATA)
        assert [(c.task, c.encoder, c.settings["encoder"]) for c in cells] == [("ixi_denoise", "", "none")] * 2

    def test_a_study_variant_is_tested_where_the_study_says(self, gpu: Preset) -> None:
        cells = expand(gpu, Choice(variants=["seqinv-vicreg"]), DATA)
        assert cells[0].configs == ("vicreg.json",)
        assert cells[0].settings["mode"] == "seqinv"
        assert {(c.task, c.modality, c.fraction) for c in cells[1:]} == {
            ("ixi_seg", "T1w", 0.01),
            ("ixi_seg", "T2w", 0.01),
            ("ixi_denoise", "T1w", 0.01),
        }

    def test_a_changed_pretraining_changes_what_is_built_on_it_only(self, gpu: Preset) -> None:
        longer = replace(gpu, pretrain=replace(gpu.pretrain, settings={**gpu.pretrain.settings, "max_epochs": 11}))
        before = set(names(expand(gpu, Choice(), DATA)))
        after = expand(longer, Choice(), DATA)
        kept = [cell for cell in after if cell.name in before]
        assert {cell.variant for cell in kept} == {"random"}
        assert len(kept) == 15

    def test_other_data_change_only_the_cells_that_read_them(self, gpu: Preset) -> None:
        before = set(names(expand(gpu, Choice(), DATA)))
        after = expand(gpu, Choice(), {**DATA, "arc": "mine"})
        assert {cell.task for cell in after if cell.name not in before} == {"arc_lesion"}

    def test_more_seconds_change_no_name(self, gpu: Preset) -> None:
        slower = replace(gpu, pretrain=replace(gpu.pretrain, seconds=1e4))
        assert names(expand(slower, Choice(), DATA)) == names(expand(gpu, Choice(), DATA))

    def test_recipes_share_a_pretraining_and_differ_in_its_use(self) -> None:
        mini = load_preset("mini")
        cells = expand(mini, Choice(tasks=["ixi_seg"], variants=["maps-linear", "maps-tuned"], seeds=[1]), DATA)
        made, linear, tuned = cells
        assert (made.task, made.variant, made.configs) == ("pretrain", "seqinv-maps", ("demo.json", "maps.json"))
        assert linear.encoder == tuned.encoder == made.name
        assert (linear.settings["freeze"], tuned.settings["freeze"]) == (True, False)
        assert linear.name != tuned.name

    def test_a_recipe_on_simulations_names_the_maps_that_it_learns_from(self) -> None:
        mini = load_preset("mini")
        (cell,) = expand(mini, Choice(tasks=["ixi_seg"], variants=["simulated"], seeds=[0]), DATA)
        assert (cell.maps, cell.data, cell.encoder) == (DATA["qmri"], DATA["ixi"], "")
        assert cell.configs == ("demo.json", "synthetic.json")
        (other,) = expand(mini, Choice(tasks=["ixi_seg"], variants=["simulated"], seeds=[0]), {**DATA, "qmri": "z"})
        assert other.name != cell.name

    def test_a_recipe_may_learn_from_all_people_of_the_maps(self) -> None:
        mini = load_preset("mini")
        chosen = Choice(tasks=["ixi_seg"], variants=["simulated", "simulated-people"], seeds=[0])
        few, everyone = expand(mini, chosen, DATA)
        assert (few.settings["label_fraction"], everyone.settings["label_fraction"]) == (0.05, 1.0)
        assert few.fraction == everyone.fraction == 0.05  # both stand in the column of one labelled person

    def test_a_task_may_be_for_some_variants_unless_others_are_asked_for(self) -> None:
        mini = load_preset("mini")
        chosen = Choice(tasks=["arc_lesion"], seeds=[0])
        variants = {c.variant for c in expand(mini, chosen, DATA) if c.task == "arc_lesion"}
        assert variants == set(mini.tasks["arc_lesion"].variants) < set(mini.variants)
        asked = expand(mini, replace(chosen, variants=["maps-linear"]), DATA)
        assert asked[-1].variant == "maps-linear"

    @pytest.mark.parametrize(
        ("choice", "told"),
        [
            (Choice(tasks=["ixi"]), "task 'ixi' is not in the preset gpu: choose pretrain, ixi_seg"),
            (Choice(variants=["simclr"]), "variant 'simclr' is not in"),
            (Choice(modalities=["SWI"]), "choose T1w, T2w, PDw, FLAIR"),
            (Choice(fractions=[10.0]), "label_fraction 10.0 is no share"),
            (Choice(tasks=["ixi_seg"], modalities=["FLAIR"]), "nothing is left of the grid"),
        ],
    )
    def test_what_there_is_not_is_refused(self, gpu: Preset, choice: Choice, told: str) -> None:
        with pytest.raises(InputError, match=told):
            expand(gpu, choice, DATA)
