"""What figures show, read off the figures themselves."""

import itertools
import json

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

import mlp_mixer
from mlp_mixer.analysis import curves, tradeoff
from mlp_mixer.models.init import init
from mlp_mixer.planning import compiler, estimate, picture, plan
from mlp_mixer.planning.chips import GIB, parse_topology
from mlp_mixer.runs import metrics


def test_a_curve_of_one_point_is_seen(tmp_path):
    line = {"step": 34, "train/loss": 1.5, "test/loss": 1.0}
    (tmp_path / metrics.FILE).write_text(json.dumps(line) + "\n")
    drawn = curves.draw([tmp_path], ["loss"]).axes[0].lines
    assert sorted(float(line.get_ydata()[0]) for line in drawn) == [1.0, 1.5]
    assert all(line.get_marker() not in ("None", "") for line in drawn)


def test_a_curve_of_several_training_means_has_no_markers(tmp_path):
    lines = [{"step": step, "train/loss": 1.5, "test/loss": 1.0} for step in (1, 2)]
    (tmp_path / metrics.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = curves.draw([tmp_path], ["loss"]).axes[0].lines
    assert [line.get_marker() for line in drawn] == ["None", "o"]


def test_one_run_is_drawn_as_a_list_of_one(tmp_path):
    line = {"step": 34, "train/loss": 1.5, "test/loss": 1.0}
    (tmp_path / metrics.FILE).write_text(json.dumps(line) + "\n")
    for workdirs in (str(tmp_path), tmp_path):
        assert list(curves.read_curves(workdirs, ["loss"]).runs) == [str(tmp_path)]
        assert len(mlp_mixer.curves(workdirs, ["loss"]).axes) == 1


def write_metrics(workdir, *lines):
    workdir.mkdir(exist_ok=True)
    (workdir / metrics.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


TRAINED = {"step": 34, "train/loss": 1.5, "train/accuracy": 0.5}


def test_a_run_that_was_never_evaluated_is_drawn(tmp_path):
    stopped = write_metrics(tmp_path / "stopped", TRAINED, TRAINED | {"step": 40})
    tested = write_metrics(tmp_path / "tested", TRAINED, {"step": 34, "test/accuracy": 0.75})
    loss, accuracy = mlp_mixer.curves(stopped).axes
    assert loss.lines[0].get_ydata().tolist() == [1.5, 1.5] and len(accuracy.lines) == 1
    assert curves.read_curves(stopped).summary() == [["run", "step"], [str(stopped), "40"]]
    assert curves.read_curves([stopped, tested]).summary() == [
        ["run", "step", "test accuracy"], [str(stopped), "40", ""], [str(tested), "34", "75.00%"],
    ]  # fmt: skip


def test_of_several_runs_one_without_metrics_is_left_out(tmp_path, caplog):
    begun, trained = write_metrics(tmp_path / "begun"), write_metrics(tmp_path / "on", TRAINED)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "config.json").write_text("{}")
    found = curves.read_curves([begun, trained, tmp_path / "killed"])
    assert list(found.runs) == [str(trained)] and legend(found.figure())[0] == "on"
    assert [(r.levelname, r.message.partition(" ")[0]) for r in caplog.records] == [
        ("WARNING", str(begun)), ("WARNING", str(tmp_path / "killed")),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"{begun} has no metrics yet: .*log_every_steps"):
        mlp_mixer.curves(begun)
    with pytest.raises(FileNotFoundError, match="nowhere is not the workdir of a run"):
        mlp_mixer.curves([trained, tmp_path / "nowhere"])


def test_the_accuracy_a_run_lacks_is_told_with_the_reason(tmp_path):
    workdir = write_metrics(tmp_path / "run", TRAINED)
    (workdir / "config.json").write_text('{"architecture": "mixer"}')
    with pytest.raises(ValueError, match=r"has no fewshot/5shot: it has not been evaluated yet$"):
        mlp_mixer.permutation([workdir])
    write_metrics(workdir, TRAINED | {"test/accuracy": 0.5})
    with pytest.raises(ValueError, match=r"has no fewshot/5shot; --scalar names another"):
        mlp_mixer.permutation([workdir])


def legend(figure):
    return [text.get_text() for text in figure.legends[0].texts]


def test_runs_that_dots_stand_for_have_their_names(tmp_path, monkeypatch):
    line = {"step": 34, "test/loss": 1.0}
    for name in ("mine", "mine/again", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / metrics.FILE).write_text(json.dumps(line) + "\n")
    monkeypatch.chdir(tmp_path / "mine")
    for workdirs, names in (
        (["."], ["mine"]),
        ([".", "../other"], ["mine", "other"]),
        (["again/..", "again"], ["mine", "again"]),
        (["../other", "../other/"], ["other", "other"]),  # one run twice
    ):
        assert legend(curves.draw(workdirs, ["loss"]))[: len(names)] == names
    assert curves.short_names(["a/1", "b/1", "2"]) == {"a/1": "a/1", "b/1": "b/1", "2": "2"}


def test_no_two_of_forty_runs_look_alike():
    lines = [{"step": step, "train/loss": 1.5, "test/loss": 1.0} for step in (1, 2)]
    runs = {f"run_{number}": lines for number in range(40)}
    figure = curves.Curves(runs, {"loss": ["train/loss", "test/loss"]}).figure()

    def looks(lines):
        return [(to_hex(line.get_color()), line.get_linestyle()) for line in lines]

    trained, tested = looks(figure.axes[0].lines[::2]), looks(figure.axes[0].lines[1::2])
    assert len(set(tested)) == 40 and {style for _, style in tested[:10]} == {"-"}
    assert trained == tested == looks(figure.legends[0].legend_handles[:40])


def save_mixer(path, image_channels=1):
    module = mlp_mixer.create(
        num_classes=3, image_size=4, patch_size=2, num_blocks=2, hidden_dim=4, tokens_mlp_dim=4,
        channels_mlp_dim=8, image_channels=image_channels,
    )  # fmt: skip
    mlp_mixer.save(path, module, init(module))
    return path


@pytest.mark.parametrize("blocks", [[0], [0, 1]])
def test_filters_say_what_their_colours_mean(tmp_path, blocks):
    *panels, key = mlp_mixer.filters(save_mixer(tmp_path / "m.npz"), blocks).axes
    assert len(panels) == len(blocks)
    assert key.get_xlim() == panels[0].images[0].get_clim() == (-1, 1)
    assert key.get_xlabel() == "weight / largest weight of the unit"


def test_a_stem_in_its_own_colours_has_no_key(tmp_path):
    figure = mlp_mixer.filters(save_mixer(tmp_path / "m.npz", 3), stem=True)
    assert len(figure.axes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", tradeoff.PAPER_ACCURACIES)
def test_labels_of_the_tradeoff_touch_nothing(accuracy):
    figure = tradeoff.read_tradeoff(paper_accuracy=accuracy).figure()
    figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # without leaders
        marks = [
            ax.transData.transform(point)
            for line in ax.lines if line.get_linestyle() == "None" for point in line.get_xydata()
        ]  # fmt: skip
        assert len(boxes) == len(marks) == len(tradeoff.of_paper(accuracy))
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert not any(box.contains(*mark) for box in boxes for mark in marks)
        frame = ax.get_window_extent().padded(1)
        assert all(frame.contains(*corner) for box in boxes for corner in box.corners())


def test_labels_stand_beside_their_own_points():
    figure = tradeoff.read_tradeoff().figure()
    figure.draw_without_rendering()
    for ax in figure.axes:
        for text in ax.texts:
            box, place = Text.get_window_extent(text).extents, ax.transData.transform(text.xy)
            away = np.linalg.norm(place - place.clip(box[:2], box[2:])) * 72 / figure.dpi
            assert away < 35 and (away < 10 or text.arrow_patch)


def test_a_plan_of_a_small_model_needs_more_than_nothing():
    program = compiler.Program(True, {"parameters": 0.003 * GIB}, cycles=1e7, flops=1e10)
    small = estimate.Estimate(program, parse_topology("v5e:1x1"), 8)
    texts = [text.get_text() for ax in picture.draw({"it": small}).axes for text in ax.texts]
    assert texts[0] == "<1% of 15.75" and texts[1].endswith("MFU <1%")
    assert "MFU <1%" in plan.describe(small, 1) and plan.table({"it": small}, 1)[1][5] == "<1%"
    assert "matrix units only for <1%" in small.limit
    assert [estimate.percent(x) for x in (0, 0.0099, 0.01, 0.5)] == ["0%", "<1%", "1%", "50%"]
