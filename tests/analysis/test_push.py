"""Models pushed to a stand-in for the Hugging Face hub, and to folders, and loaded from there."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
import yaml

import mlp_mixer
from mlp_mixer.runs import metrics
from mlp_mixer.weights import load

from ..hub import User

FILES = {"README.md", "config.json", "model.safetensors"}
NAMES = ("a|b", "c d", 'e"f')


@pytest.fixture
def file(tmp_path):
    """A small Mixer with all that a file can say of its use."""
    module = mlp_mixer.create(
        num_classes=3, image_size=(4, 8), patch_size=2, num_blocks=1, hidden_dim=8,
        tokens_mlp_dim=4, channels_mlp_dim=16, gelu="exact",
    )  # fmt: skip
    path = tmp_path / "small.npz"
    params = mlp_mixer.init(module)
    params["head"]["bias"] = np.arange(3, dtype=np.float32)
    mlp_mixer.save(
        path, module, params, class_names=NAMES, crop="resize", crop_fraction=0.8, loss="sigmoid"
    )
    return path


def other_than(file, path):
    """The same model with another bias."""
    module, params = mlp_mixer.load(file)
    params["head"]["bias"] = params["head"]["bias"] + 1
    mlp_mixer.save(path, module, params, class_names=NAMES)
    return path


def card(text: str) -> tuple[dict, str]:
    """The metadata and the text of a model card."""
    _, metadata, rest = text.split("---\n", 2)
    return yaml.safe_load(metadata), rest


def same(source, where):
    """Checks that two sources give the same classifier, to the bit."""
    one, two = map(mlp_mixer.load_classifier, (source, where))
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    assert one.module == two.module and one.class_names == two.class_names
    for name in ("crop", "crop_fraction", "loss"):
        assert getattr(one, name) == getattr(two, name)


# --- the hub ---


def test_what_is_pushed_loads_with_names_crop_and_loss(hub, file):
    pushed = mlp_mixer.push(file, "hf://alice/small", license="mit")
    repository = hub.repositories["alice/small"]
    assert pushed == (f"{hub.url}/alice/small/commit/{repository.refs['main']}", True)
    assert repository.files().keys() == FILES | {".gitattributes"} and not repository.private
    same(file, "hf://alice/small")
    assert load.read("hf://alice/small").settings == load.read(file).settings


@pytest.mark.slow
def test_a_run_on_the_hub_is_evaluated_as_in_its_workdir(hub, finished):
    mlp_mixer.push(finished.workdir, "hf://alice/digits")
    result = mlp_mixer.evaluate("hf://alice/digits", "digits", "test")
    assert result.accuracy == finished.result["test/accuracy"]


def test_one_commit_holds_all_and_the_same_again_makes_none(hub, file):
    mlp_mixer.push(file, "hf://alice/small")
    repository, asked = hub.repositories["alice/small"], len(hub.requests)
    assert repository.messages == ["initial commit", "Push small"]
    assert mlp_mixer.push(file, "hf://alice/small") == ("hf://alice/small", False)
    assert len(repository.commits) == 2
    assert hub.requests[asked:] == ["GET /api/models/alice/small"]


def test_nothing_else_is_overwritten_unless_one_says_so(hub, file, tmp_path, caplog):
    mlp_mixer.push(file, "hf://alice/small", license="mit")
    repository = hub.repositories["alice/small"]
    first, text = repository.refs["main"], repository.files()["README.md"].decode()
    repository.commit({"README.md": b"---\n{}\n---\nby hand"}, "by hand")
    repository.commit({"notes.txt": b"other files stay"}, "notes")
    other = other_than(file, tmp_path / "other.npz")
    with pytest.raises(
        FileExistsError, match=r"alice/small has another README\.md; choose.*--over"
    ):
        mlp_mixer.push(file, "hf://alice/small", license="mit")
    with pytest.raises(FileExistsError, match=r"another model\.safetensors, config\.json, README"):
        mlp_mixer.push(other, "hf://alice/small")
    assert len(repository.commits) == 4
    mlp_mixer.push(other, "hf://alice/small", overwrite=True)
    assert "replacing model.safetensors, config.json, README.md" in caplog.text
    same(other, "hf://alice/small")
    same(file, f"hf://alice/small@{first}")
    assert repository.files()["notes.txt"] == b"other files stay"
    mlp_mixer.push(file, "hf://alice/small", license="mit", overwrite=True)
    assert repository.files()["README.md"].decode() == text


def test_what_others_push_in_the_meantime_is_not_overwritten(hub, file):
    repository = hub.add("alice/small", {})
    hub.meanwhile = lambda: repository.commit({"model.safetensors": b"theirs"}, "theirs")
    with pytest.raises(OSError, match="hf://alice/small has changed in the meantime; try again"):
        mlp_mixer.push(file, "hf://alice/small")
    assert repository.files() == {"model.safetensors": b"theirs"}


def test_a_private_repository_is_and_stays_private(hub, file, monkeypatch):
    mlp_mixer.push(file, "hf://alice/small", private=True)
    assert hub.repositories["alice/small"].private
    mlp_mixer.push(file, "hf://alice/small", license="mit", overwrite=True)
    assert hub.repositories["alice/small"].private
    public = hub.add("alice/public", {})
    with pytest.raises(ValueError, match="hf://alice/public is public; make it private in its set"):
        mlp_mixer.push(file, "hf://alice/public", private=True)
    assert not public.files()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(FileNotFoundError, match="it is private and you may not read it"):
        mlp_mixer.load("hf://alice/small")


def test_tokens_and_rights_that_are_missing_say_what_to_do(hub, file, monkeypatch):
    hub.tokens["to read"] = User("alice", may_write=False)
    hub.add("alice/mine", {})
    hub.add("bob/his", {})
    for token, name, message in (
        (
            "alice's",
            "bob/new",
            r"your token may not do that; make one with the right to write.*und",
        ),
        ("alice's", "bob/his", "your token may not do that"),
        ("to read", "alice/mine", "your token may not do that"),
        ("to read", "alice/new", "your token may not do that"),
        ("expired", "alice/new", r"needs a token that is valid: log in with `hf auth login`"),
        ("", "alice/new", r"needs a token that is valid: log in with `hf auth login`"),
        ("", "alice/mine", r"needs a token that is valid: log in with `hf auth login`"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(PermissionError, match=rf"^hf://{name}:? {message}") as told:
            mlp_mixer.push(file, f"hf://{name}")
        assert "\n" not in str(told.value)
    assert not any(r.files() for name, r in hub.repositories.items())


def test_what_the_hub_refuses_or_offline_is_told_in_a_line(hub, file, monkeypatch):
    from huggingface_hub import constants

    with pytest.raises(ValueError, match=r"^hf://alice/small: Invalid metadata.*license.*$"):
        mlp_mixer.push(file, "hf://alice/small", license="free")
    for name in ("small", "alice/small@main", "alice/a/b"):
        with pytest.raises(ValueError, match="what is written to is hf://OWNER/NAME"):
            mlp_mixer.push(file, f"hf://{name}")
    with pytest.raises(ValueError, match=r"hf://alice/a b: Repo id must"):
        mlp_mixer.push(file, "hf://alice/a b")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"HF_HUB_OFFLINE is set, so nothing .* written"):
        mlp_mixer.push(file, "hf://alice/small")


def test_an_upload_that_fails_says_where(hub, file, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    hub.answers["/lfs/"] = 503
    with pytest.raises(OSError, match="hf://alice/small: the Hugging Face hub answers 503"):
        mlp_mixer.push(file, "hf://alice/small")
    hub.answers.clear()
    assert mlp_mixer.push(file, "hf://alice/small").changed  # into what is there, but empty


# --- a folder ---


def test_a_folder_holds_the_same_and_loads(file, tmp_path):
    folder = tmp_path / "exported" / "small"
    assert mlp_mixer.push(file, folder) == (str(folder), True)
    assert {path.name for path in folder.iterdir()} == FILES
    same(file, folder)
    same(file, folder / "model.safetensors")
    assert mlp_mixer.push(file, folder) == (str(folder), False)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other = other_than(file, tmp_path / "other.npz")
    with pytest.raises(
        FileExistsError, match=r"small has another model\.safetensors, config\.json"
    ):
        mlp_mixer.push(other, folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    mlp_mixer.push(other, folder, overwrite=True)
    same(other, folder)


def test_a_card_in_the_current_folder_has_the_folders_name(file, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    mlp_mixer.push(file, ".")
    _, text = card((tmp_path / "mine" / "README.md").read_text())
    assert text.startswith("\n# mine\n")


@pytest.mark.slow
def test_a_folder_in_a_bucket_holds_the_same_and_loads(bucket, file):
    where = f"{bucket}/small"
    assert mlp_mixer.push(file, where) == (where, True)
    assert {path.name for path in (bucket / "small").iterdir()} == FILES
    same(file, where)
    assert mlp_mixer.push(file, where) == (where, False)


@pytest.mark.slow
def test_destinations_that_cannot_be_meant_are_refused(file, finished, tmp_path):
    before = (finished.workdir / "config.json").read_bytes()
    for destination, message in (
        (finished.workdir, "is the workdir of a run; choose another folder"),
        (file, "is a file; choose a folder"),
        ("s9://bucket/small", "is neither a path nor an address of a bucket"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp_mixer.push(file, destination, overwrite=True)
    with pytest.raises(ValueError, match="private is for a repository"):
        mlp_mixer.push(file, tmp_path / "x", private=True)
    assert (finished.workdir / "config.json").read_bytes() == before


def test_accuracies_that_are_none_are_refused(file, tmp_path):
    for accuracy in (76.4, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"accuracy of mine: {accuracy}; give a number from 0"):
            mlp_mixer.push(file, tmp_path / "x", accuracy={"mine": accuracy})
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_models_that_no_file_can_hold_are_refused(finished, tmp_path):
    for change, message in (
        (
            dict(architecture="vit"),
            "is a run of architecture=vit, not of a Mixer; what can be pushed",
        ),
        (dict(permuted=dict(order="pixels")), "is a model of permuted pixels; what can be pushed"),
    ):
        workdir = finished.copy(tmp_path / "run")
        config = json.loads((workdir / "config.json").read_text())
        (workdir / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            mlp_mixer.push(workdir, tmp_path / "x")


# --- the card ---


def test_a_card_loads_the_model_in_two_lines(hub, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlp_mixer.push(file, "hf://alice/small")
    mlp_mixer.push(file, "here")
    np.save("photo.npy", np.zeros((4, 8, 3), np.uint8))
    for text in (hub.repositories["alice/small"].files()["README.md"].decode(),
                 (tmp_path / "here" / "README.md").read_text()):  # fmt: skip
        block = re.findall(r"```python\n(.*?)```", text, re.S)[0]
        first, blank, *two = block.splitlines()
        assert (first, blank, len(two)) == ("import mlp_mixer", "", 2)
        names = {"numpy": np}
        exec(block.replace('"photo.jpg"', 'numpy.load("photo.npy")'), names)
        assert names["classifier"].class_names == NAMES


@pytest.mark.slow
def test_a_card_of_a_run_says_how_it_was_trained_and_evaluated(finished, tmp_path):
    mlp_mixer.push(finished.workdir, tmp_path / "x", license="mit", accuracy={"My test": 0.5})
    about, text = card((tmp_path / "x" / "README.md").read_text())
    line = metrics.read(finished.workdir)[-1]
    assert line["step"] == 6
    accuracy = round(line["test/accuracy"], 6)
    assert about.pop("model-index") == [{"name": "x", "results": [
        {"task": {"type": "image-classification"},
         "dataset": {"name": name, "type": kind} | split,
         "metrics": [{"type": "accuracy", "value": value, "name": "top-1 accuracy"}]}
        for name, kind, split, value in (("digits", "digits", {"split": "test"}, accuracy),
                                         ("My test", "my-test", {}, 0.5))
    ]}]  # fmt: skip
    assert about == {
        "license": "mit", "library_name": "mlp_mixer", "pipeline_tag": "image-classification",
        "tags": ["mlp-mixer", "image-classification", "jax", "flax"],
    }  # fmt: skip
    for row in (f"| digits | test | {accuracy:.2%} |", "| My test | - | 50.00% |",
                "| data | digits, train: 1,437 images of 10 classes |",
                "| started from | random parameters, seed 0 |",
                "| steps | 6, 0.0668 epochs |", "| augmentation | rotate 10, shift 1, zoom 0.1 |",
                "| recipe | batch_size 16, optimizer adam, lr 0.005, decay cosine, warmup_steps 1,",
                "| classes | 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |"):  # fmt: skip
        assert row in text
    [whole] = re.findall(r"```json\n(.*?)```", text, re.S)
    assert json.loads(whole) == json.loads((finished.workdir / "config.json").read_text())


@pytest.mark.slow
def test_a_card_tells_of_all_that_changes_what_is_trained(finished, tmp_path):
    workdir = finished.copy(tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config |= {"drop_schedule": "early", "drop_epochs": 2.0}
    config["model"]["stoch_depth"] = 0.1
    config["augment"] |= {"autoaugment": "cifar10", "randaugment_form": "timm"}
    (workdir / "config.json").write_text(json.dumps(config))
    mlp_mixer.push(workdir, tmp_path / "x")
    text = (tmp_path / "x" / "README.md").read_text()
    assert "stoch_depth 0.1, drop_schedule early, drop_epochs 2 |" in text
    # Which form of RandAugment a run would take says nothing where it has none.
    assert "| augmentation | autoaugment cifar10, rotate 10, shift 1, zoom 0.1 |" in text


@pytest.mark.slow
def test_a_checkpoint_has_the_accuracy_of_its_own_step(finished, tmp_path):
    by_step = {line["step"]: line["test/accuracy"] for line in metrics.read(finished.workdir)
               if "test/accuracy" in line}  # fmt: skip
    assert by_step[3] != by_step[6]
    for step in (3, 6):
        where = tmp_path / str(step)
        mlp_mixer.push(finished.workdir / "checkpoints" / str(step), where)
        about, text = card((where / "README.md").read_text())
        [found] = about["model-index"][0]["results"]
        assert found["metrics"][0]["value"] == round(by_step[step], 6)
        assert f"| steps | {step}, " in text


@pytest.mark.slow
def test_averaged_weights_have_the_accuracy_of_the_average(finished, tmp_path):
    workdir = finished.copy(tmp_path / "run")
    shutil.copy(workdir / "model.npz", workdir / "ema.npz")
    step = mlp_mixer.Run(workdir).step
    with (workdir / metrics.FILE).open("a") as file:
        file.write(json.dumps({"step": step, "ema_test/accuracy": 0.4321}) + "\n")
    mlp_mixer.push(workdir / "ema.npz", tmp_path / "average")
    metadata, text = card((tmp_path / "average" / "README.md").read_text())
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.4321
    assert "43.21%" in text and "of which the parameters are averaged" in text
    mlp_mixer.push(workdir, tmp_path / "last")
    assert "43.21%" not in (tmp_path / "last" / "README.md").read_text()


@pytest.mark.slow
def test_a_run_that_was_not_evaluated_says_so(finished, tmp_path):
    workdir = finished.copy(tmp_path / "run")
    (workdir / "metrics.jsonl").write_text("")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    mlp_mixer.push(workdir, tmp_path / "x")
    about, text = card((tmp_path / "x" / "README.md").read_text())
    assert "model-index" not in about and "Not evaluated." in text


def test_a_card_of_a_file_invents_nothing(file, tmp_path):
    mlp_mixer.push(file, tmp_path / "x")
    about, text = card((tmp_path / "x" / "README.md").read_text())
    assert "license" not in about and "None was given" in text
    assert "How it was trained is not recorded." in text and "Not evaluated." in text
    assert r"| classes | a\|b, c d, e" in text
    assert "resized to 5 x 10 pixels; the middle 4 x 8 are cut out" in text
    assert "timm has no architecture of this size" in text


@pytest.mark.slow
def test_where_it_comes_from_on_the_hub_is_linked(finished, hub, file, tmp_path):
    mlp_mixer.push(file, "hf://alice/small")
    workdir = finished.copy(tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["init_from"] = "hf://alice/small@main"
    config["data"]["source"] = "hf:alice/images/small"
    (workdir / "config.json").write_text(json.dumps(config))
    mlp_mixer.push(workdir, tmp_path / "x")
    about, _ = card((tmp_path / "x" / "README.md").read_text())
    assert (about["base_model"], about["datasets"]) == ("alice/small", "alice/images")


def test_the_command_says_where_it_is_and_refuses_bad_numbers(run, command, hub, file, tmp_path):
    folder = tmp_path / "alice" / "small"
    assert run("push", file, folder) == f"{file} is in the folder {folder}\n"
    out = run("push", file, "hf://alice/small", "--license=mit", "--accuracy=Mine=0.5")
    repository = hub.repositories["alice/small"]
    assert out == f"{file} is in {hub.url}/alice/small/commit/{repository.refs['main']}\n"
    about, _ = card(repository.files()["README.md"].decode())
    assert about["model-index"][0]["results"][0]["dataset"]["name"] == "Mine"
    again = run("push", file, "hf://alice/small", "--license=mit", "--accuracy=Mine=0.5")
    assert again == f"{file} is in hf://alice/small, unchanged\n"
    for wrong in ("Mine=high", "0.5"):
        told = command("push", file, "hf://alice/small", f"--accuracy={wrong}")
        assert told.status == 2 and "is not like ImageNet=0.764" in told.err
    told = command("push", file, "hf://bob/small")
    assert told.status == 1 and "your token may not do that" in told.err
