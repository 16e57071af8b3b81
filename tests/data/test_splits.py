from __future__ import annotations

import hashlib
import json
import logging

import pytest

from scripts.data.splits import PARTS, claim_split, label_subset, read_split, select, split_subjects, write_split
from scripts.errors import InputError


def names(n: int) -> list[str]:
    return [f"sub-{i:04d}" for i in range(n)]


@pytest.mark.parametrize(
    ("n", "counts"),
    # published sizes: IXI Guys T1, T2; ARC T2w, T1w, FLAIR; then our default cohort and the smallest ones
    [
        (322, (225, 32, 65)),
        (319, (223, 31, 65)),
        (228, (159, 22, 47)),
        (203, (142, 20, 41)),
        (85, (59, 8, 18)),
        (51, (35, 5, 11)),
        (5, (3, 1, 1)),
        (4, (2, 1, 1)),
        (3, (1, 1, 1)),
        (2, (1, 0, 1)),
        (1, (1, 0, 0)),
    ],
)
def test_counts(n, counts):
    split = split_subjects(names(n))
    assert tuple(len(split[part]) for part in PARTS) == counts
    assert split["training"] + split["validation"] + split["test"] == names(n)


def test_every_part_has_one_and_the_order_of_names_does_not_matter():
    for n in range(3, 60):
        for fractions in [(0.7, 0.1), (0.98, 0.01), (0.01, 0.98), (0.01, 0.01)]:
            split = split_subjects(names(n), fractions)
            assert all(split[part] for part in PARTS)
    assert split_subjects(reversed(names(20))) == split_subjects(names(20) + names(5))


def test_hash_is_that_of_the_content():
    split = split_subjects(["b", "a", "c", "d"])
    content = b'{"test":["d"],"training":["a","b"],"validation":["c"]}'
    assert split["sha256"] == hashlib.sha256(content).hexdigest()


def test_written_split_is_read_back_and_changes_are_noticed(tmp_path):
    split = split_subjects(names(9))
    path = write_split(split, tmp_path / "new" / "split.json")
    assert read_split(path) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]
    changed = json.loads(path.read_text())
    changed["training"].append("sub-9999")
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"split\.json was changed after it was written"):
        read_split(path)
    changed["training"][-1] = changed["test"][0]
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"split\.json has a subject in two parts"):
        read_split(path)
    path.write_text("{}")
    with pytest.raises(InputError, match=r"split\.json is no split"):
        read_split(path)
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        read_split(tmp_path / "none.json")


def test_select_keeps_sessions_of_a_subject_together(tmp_path, caplog):
    data = [{"subject": name, "session": s} for name in names(10) for s in ("a", "b")]
    parts = [select(data, part) for part in PARTS]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert [*parts[0], *parts[1], *parts[2]] == data
    path = write_split(split_subjects(names(10)), tmp_path / "split.json")
    assert select(data, "test", splits=path) == parts[2]
    with caplog.at_level(logging.WARNING):
        select([*data, {"subject": "sub-9999"}], "test", splits=path)
    assert caplog.messages == ["1 subjects stand in no part of the split, first sub-9999"]


def test_select_refuses_what_it_cannot_give(tmp_path):
    data = [{"subject": name} for name in names(10)]
    with pytest.raises(InputError, match="split='train' is unknown: choose from training, validation, test"):
        select(data, "train")
    with pytest.raises(InputError, match=r"the data lacks 1 of the 2 test subjects, first sub-0009"):
        select(data[:-1], "test", splits=split_subjects(names(10)))
    with pytest.raises(InputError, match=r"no validation subjects among 2"):
        select(data[:2], "validation")
    with pytest.raises(InputError, match="no subjects to split"):
        select([], "test")
    with pytest.raises(InputError, match=r"fractions=\(0.9, 0.1\)"):
        split_subjects(names(3), (0.9, 0.1))


def test_further_test_subjects_leave_the_other_parts_alone():
    alone, more = split_subjects(names(10)), split_subjects(names(10), test=["a", "sub-0009", "z"])
    assert [more[part] for part in PARTS[:2]] == [alone[part] for part in PARTS[:2]]
    assert more["test"] == ["a", "sub-0008", "sub-0009", "z"]
    assert more["sha256"] != alone["sha256"]


def test_subjects_of_one_person_go_together():
    people = {name: f"person-{i % 20:02d}" for i, name in enumerate(names(51))}
    split = split_subjects(names(51), (0.7, 0.15), people=people)
    persons = [{people[name] for name in split[part]} for part in PARTS]
    assert [len(part) for part in persons] == [14, 3, 3]
    assert len(set.union(*persons)) == 20
    assert sorted(name for part in PARTS for name in split[part]) == names(51)
    assert all(split[part] == sorted(split[part]) for part in PARTS)
    data = [{"subject": name, "person": people[name]} for name in names(51)]
    for part in PARTS:
        assert [entry["subject"] for entry in select(data, part, fractions=(0.7, 0.15))] == split[part]


def test_a_claimed_split_refuses_another(tmp_path):
    path = tmp_path / "run" / "split.json"
    split = split_subjects(names(10))
    assert claim_split(split, path) == path
    assert read_split(claim_split(split_subjects(names(10)), path)) == split
    for other in (split_subjects(names(11)), split_subjects(names(10), (0.6, 0.1)), split_subjects(names(10)[::2])):
        with pytest.raises(InputError, match=r"split\.json is a split of other subjects.*--work_dir, or delete it"):
            claim_split(other, path)
    assert read_split(path) == split
    path.write_text("{}")
    with pytest.raises(InputError, match=r"split\.json is no split"):
        claim_split(split, path)


@pytest.mark.parametrize(
    ("n", "fraction", "expected"),
    # the paper's shares of 225 Guys and 159 ARC subjects; 0.29 * 100 is 28.999999999999996 in floating point
    [
        (225, 0.01, 2),
        (225, 0.1, 22),
        (225, 1.0, 225),
        (159, 0.01, 1),
        (159, 0.1, 15),
        (59, 0.01, 1),
        (1, 1e-6, 1),
        (100, 0.29, 29),
    ],
)
def test_few_labels_are_a_prefix_of_the_training_list(n, fraction, expected):
    assert label_subset(names(n), fraction) == names(n)[:expected]
    drawn = label_subset(names(n), fraction, draw=1)
    assert len(drawn) == len(set(drawn)) == expected
    assert set(drawn) <= set(names(n))
    assert drawn == sorted(drawn)


def test_more_draws_differ_and_repeat():
    draws = [label_subset(names(40), 0.25, draw) for draw in range(6)]
    assert len({tuple(drawn) for drawn in draws}) == 6
    assert draws == [label_subset(names(40), 0.25, draw) for draw in range(6)]
    everybody = {name for draw in range(1, 40) for name in label_subset(names(40), 0.25, draw)}
    assert everybody == set(names(40))


def test_few_labels_are_those_of_few_people():
    """Three heads of each of four people: a quarter of the labels is one person's, whichever is drawn."""
    heads = [f"sub-{n:02d}" for n in range(12)]
    people = {name: f"p{n % 4}" for n, name in enumerate(heads)}
    assert label_subset(heads, 0.25, people=people) == ["sub-00", "sub-04", "sub-08"]
    for draw in range(1, 9):
        drawn = label_subset(heads, 0.5, draw, people)
        assert len(drawn) == 6
        assert len({people[name] for name in drawn}) == 2
    assert label_subset(heads, 1.0, 3, people) == heads


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan"), 10])
def test_a_label_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match=r"label_fraction=.*: give a share above 0, up to 1"):
        label_subset(names(10), fraction)


def test_no_labels_to_draw_from_and_a_draw_that_is_none():
    with pytest.raises(InputError, match="no training subjects to take labels of"):
        label_subset([], 0.5)
    with pytest.raises(InputError, match="draw=-1: give 0"):
        label_subset(names(10), 0.5, -1)
