"""The paper's means over data sets."""

import json

import numpy as np
import pytest

from mlp_mixer.analysis import transfers


def write(workdir, source, accuracy, lr=0.03):
    workdir.mkdir()
    result = dict(source=source, dev={str(lr): 0.5}, lr=lr, test={"test/accuracy": accuracy})
    (workdir / "sweep.json").write_text(json.dumps(result))
    return workdir


def test_avg_5_is_the_mean_of_five_data_sets_means_over_runs(tmp_path, run):
    def show(*workdirs):
        return [line.split() for line in run("transfers", *workdirs).splitlines()]

    accuracies = {
        "tfds:imagenet2012": 0.80, "tfds:cifar10": 0.96, "tfds:cifar100": 0.84,
        "tfds:oxford_iiit_pet": 0.90,
    }  # fmt: skip
    four = [write(tmp_path / str(i), *row) for i, row in enumerate(accuracies.items())]
    assert not any("Avg" in row for row in show(*four))
    flowers = write(tmp_path / "a", "folder:flowers", 0.97), write(tmp_path / "b", "x:y", 0.99)
    named = [f"Flowers={workdir}" for workdir in flowers]
    rows = show(*four, *named, tmp_path / "nothing")
    assert ["Avg", "5", "89.60"] in rows  # (80 + 96 + 84 + 90 + 98) / 5
    assert ["Flowers", "0.03,", "0.03", "98.00", "1.41", "of", "2"] in rows
    assert " ".join(rows[-1]).startswith(f"{tmp_path / 'nothing'} is not a finished sweep: ")
    with pytest.raises(ValueError, match=r"folder:flowers.*NAME=WORKDIR.*Pets"):
        transfers.read_transfers([str(flowers[0])])


def test_a_name_is_one_of_a_data_set_not_a_part_of_a_path(tmp_path, run):
    (tmp_path / "lr=0.1").mkdir()
    known = write(tmp_path / "lr=0.1" / "a", "tfds:cifar10", 0.96)
    named = write(tmp_path / "lr=0.1" / "b", "folder:flowers", 0.97)
    found = transfers.read_transfers([str(known), f"Flowers={named}", f"Pets={known}"])
    assert found.accuracies == {"CIFAR-10": [96.0], "Flowers": [97.0], "Pets": [96.0]}
    assert transfers.read_transfers(["Flowers=a=b", "c=d"]).unfinished == ["a=b", "c=d"]
    out = run("transfers", "flower=a", "a")
    assert "flower=a is not a finished sweep: it has no sweep.json; of NAME=WORKDIR, NAME" in out
    assert out.endswith("a is not a finished sweep: it has no sweep.json\n")


def test_vtab_is_the_mean_over_19_tasks_in_three_groups():
    # The groups of the VTAB paper (arXiv 1910.04867).
    groups = {
        "natural": "caltech101 cifar100 dtd flowers102 pets svhn sun397",
        "specialised": "patch_camelyon eurosat resisc45 retinopathy",
        "structured": "clevr_count clevr_distance dmlab dsprites_location dsprites_orientation "
        "kitti_distance smallnorb_azimuth smallnorb_elevation",
    }
    accuracies = {}
    for number, names in enumerate(groups.values()):
        accuracies |= {name: [10.0 * number + i] for i, name in enumerate(names.split())}
    found = transfers.means(accuracies)
    assert set(found) == {"VTAB-1k", *(f"VTAB-1k, {group}" for group in groups)}
    assert found["VTAB-1k, natural"] == 3 and found["VTAB-1k, specialised"] == 11.5
    assert found["VTAB-1k, structured"] == 23.5
    assert found["VTAB-1k"] == pytest.approx(np.mean([a[0] for a in accuracies.values()]))
