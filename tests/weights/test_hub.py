"""Repositories on a stand-in for the Hugging Face hub, read by huggingface_hub's own client."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.models.known_classes import imagenet
from mlp_mixer.weights import convert, files, load, naming, safetensors
from mlp_mixer.weights.hub import Repository, repository_of

from ..hub import User


@pytest.fixture
def timm(flat, tmp_path):
    """The model.safetensors of a small Mixer, as timm writes it."""
    path = tmp_path / "timm.safetensors"
    safetensors.write(path, naming.to_layout(flat, "timm"))
    header = path.read_bytes()
    size = int.from_bytes(header[:8], "little")
    table = json.loads(header[8 : 8 + size])
    table["__metadata__"] = {"format": "pt"}  # nothing of this project
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + header[8 + size :]


def config(**details) -> bytes:
    labels = {"label_names": details.pop("label_names")} if "label_names" in details else {}
    made = {"architecture": "mixer_b16_224", **labels, "pretrained_cfg": details}
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("address", "repository"),
    [
        ("hf://timm/mixer", Repository("timm/mixer", None)),
        ("hf:timm/mixer", Repository("timm/mixer", None)),
        ("hf://a/b@v1.0", Repository("a/b", "v1.0")),
        ("hf:a/b@refs/pr/1", Repository("a/b", "refs/pr/1")),
    ],
)
def test_addresses_name_a_repository_and_a_revision(address, repository):
    assert repository_of(address) == repository


def test_a_repository_of_timm_is_read_as_its_config_says(hub, timm, flat, equal):
    half = dict(mean=[0.5] * 3, std=[0.5] * 3)
    names = ["one", "two", "three"]
    hub.add("timm/mixer_b16_224.goog_in21k", {
        "model.safetensors": timm,
        "config.json": config(tag="goog_in21k", crop_pct=0.9, crop_mode="squash",
                              label_names=names, **half),
    })  # fmt: skip
    module, params, said = load.read("hf://timm/mixer_b16_224.goog_in21k")
    equal(params, flat)
    assert module.gelu == "tanh"  # as the tag says
    assert said == {"class_names": tuple(names), "crop_fraction": 0.9, "crop": "resize"}
    classifier = mlp_mixer.load_classifier("hf:timm/mixer_b16_224.goog_in21k")
    assert (classifier.crop, classifier.crop_fraction) == ("resize", 0.9)


def test_without_a_config_the_name_says_what_it_is(hub, tmp_path, caplog):
    sizes = dict(num_blocks=1, hidden_dim=2, tokens_mlp_dim=2, channels_mlp_dim=2)
    module = mlp_mixer.create(num_classes=1000, image_size=4, patch_size=2, **sizes)
    mlp_mixer.save(tmp_path / "x.npz", module, mlp_mixer.init(module))
    flat = dict(np.load(tmp_path / "x.npz"))
    safetensors.write(tmp_path / "x.safetensors", naming.to_layout(flat, "timm"))
    body = (tmp_path / "x.safetensors").read_bytes().replace(b'"mlp_mixer"', b'"other_one"')
    hub.add("timm/mixer_b16_224.goog_in21k_ft_in1k", {"model.safetensors": body})
    said = load.read("hf://timm/mixer_b16_224.goog_in21k_ft_in1k").settings
    assert said == {"class_names": imagenet().names}
    assert "these weights were trained on ImageNet-1k alone" in caplog.text


def test_a_branch_a_tag_and_a_commit_are_revisions(hub, timm, flat, equal):
    repository = hub.add("alice/x", {"model.safetensors": timm})
    repository.refs["v1"] = repository.refs["main"]
    repository.commit({"model.safetensors": b"no weights"}, "broken")
    for revision in ("v1", repository.refs["v1"]):
        equal(mlp_mixer.load(f"hf://alice/x@{revision}")[1], flat)
    with pytest.raises(ValueError, match=r"is not an \.npz or \.safetensors file"):
        mlp_mixer.load("hf://alice/x")
    with pytest.raises(FileNotFoundError, match="alice/x@v2: there is no such branch, tag or com"):
        mlp_mixer.load("hf://alice/x@v2")


def test_private_gated_and_missing_ones_say_what_to_do(hub, timm, monkeypatch):
    hub.add("alice/secret", {"model.safetensors": timm}, private=True)
    hub.add("bob/secret", {"model.safetensors": timm}, private=True)
    hub.add("bob/gated", {"model.safetensors": timm}, gated=True)
    hub.add("bob/empty", {})
    assert mlp_mixer.load("hf://alice/secret")
    for name, kind, message in (
        ("bob/secret", FileNotFoundError, r"or it is private and you may not read it: .*hf auth"),
        ("bob/none", FileNotFoundError, "the Hugging Face hub has no hf://bob/none"),
        ("bob/gated", PermissionError, rf"is gated: accept its terms at {hub.url}/bob/gated"),
        ("bob/empty", FileNotFoundError, "hf://bob/empty has no model.safetensors"),
        ("bob/a b", ValueError, "hf://bob/a b: Repo id must"),
    ):
        with pytest.raises(kind, match=message) as told:
            mlp_mixer.load(f"hf://{name}")
        assert "\n" not in str(told.value)
    monkeypatch.delenv("HF_TOKEN")
    hub.add("alice/other", {"model.safetensors": timm}, private=True)
    with pytest.raises(FileNotFoundError, match=r"it is private .* set HF_TOKEN"):
        mlp_mixer.load("hf://alice/other")
    monkeypatch.setenv("HF_TOKEN", "expired")
    with pytest.raises(PermissionError, match=r"needs a token that is valid.*Invalid credentials"):
        mlp_mixer.load("hf://alice/other")


def test_offline_the_cache_is_read_and_nothing_else(hub, timm, flat, equal, monkeypatch):
    from huggingface_hub import constants

    hub.add("alice/x", {"model.safetensors": timm, "config.json": config(crop_pct=0.9)})
    assert not files.is_here("hf://alice/x")
    mlp_mixer.load("hf://alice/x")
    assert files.is_here("hf://alice/x")
    assert not files.is_here("hf://alice/x@v1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    _, params, said = load.read("hf://alice/x")
    equal(params, flat)
    assert said["crop_fraction"] == 0.9 and len(hub.requests) == asked
    with pytest.raises(OSError, match=r"HF_HUB_OFFLINE is set.*in the cache \(.*\) can be read"):
        mlp_mixer.load("hf://alice/y")


def test_a_hub_that_cannot_be_reached_or_fails_says_so(hub, timm, monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its attempts
    hub.add("alice/x", {"model.safetensors": timm})
    hub.answers["resolve"] = 403
    with pytest.raises(PermissionError, match=r"hf://alice/x: your token may not do that"):
        mlp_mixer.load("hf://alice/x")
    hub.answers["resolve"] = 500
    with pytest.raises(OSError, match=r"the Hugging Face hub answers 500"):
        mlp_mixer.load("hf://alice/x")
    hub.url = "http://127.0.0.1:1"
    hub.use(monkeypatch, tmp_path)
    with pytest.raises(OSError, match="hf://alice/x: the Hugging Face hub cannot be reached"):
        mlp_mixer.load("hf://alice/x")


@pytest.mark.parametrize("status", [429, 503])
def test_a_config_that_cannot_be_fetched_is_not_a_missing_one(hub, timm, monkeypatch, status):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between its attempts
    hub.add("alice/x", {"model.safetensors": timm, "config.json": config(crop_pct=0.9)})
    hub.answers["config.json"] = status
    with pytest.raises(OSError, match=rf"hf://alice/x: .*Hugging Face hub answers {status}"):
        mlp_mixer.load("hf://alice/x")
    del hub.answers["config.json"]
    assert load.read("hf://alice/x").settings["crop_fraction"] == 0.9
    hub.answers["resolve"] = status
    assert load.read("hf://alice/x").settings["crop_fraction"] == 0.9  # of the cache


def test_a_hub_that_fails_is_not_needed_for_what_is_known(hub, timm, file, monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.add("alice/x", {"model.safetensors": timm})
    assert load.read("hf://alice/x").settings == {}
    hub.answers["resolve"] = 503  # the cache knows that there is no config.json
    assert load.read("hf://alice/x").settings == {}
    convert.convert(file, tmp_path / "own.safetensors")
    hub.add("alice/own", {"model.safetensors": (tmp_path / "own.safetensors").read_bytes()})
    hub.answers = {"config.json": 503}  # which a file that says all that itself has no need of
    assert mlp_mixer.load("hf://alice/own")[0].gelu == "tanh"


def test_offline_a_config_that_may_exist_is_told(hub, timm, monkeypatch, caplog):
    """As after `hf download` of a whole repository, which does not keep what it lacks."""
    from huggingface_hub import constants, hf_hub_download

    hub.add("alice/x", {"model.safetensors": timm, "config.json": config(crop_pct=0.9)})
    hf_hub_download("alice/x", "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load.read("hf://alice/x").settings == {}
    assert "hf://alice/x: HF_HUB_OFFLINE is set, and config.json is not in the cache" in caplog.text
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.add("alice/y", {"model.safetensors": timm})
    mlp_mixer.load("hf://alice/y")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    mlp_mixer.load("hf://alice/y")
    assert "HF_HUB_OFFLINE" not in caplog.text


@pytest.mark.slow
def test_the_variables_of_huggingface_hub_are_obeyed(hub, timm, tmp_path):
    hub.add("bob/x", {"model.safetensors": timm}, private=True)
    hub.tokens["bob's"] = User("bob")
    script = "from mlp_mixer.weights import hub; print(hub.fetch('hf://bob/x').read_bytes()[8:9])"
    environment = os.environ | hub.environment(tmp_path / "home") | {"HF_TOKEN": "bob's"}
    asked = []
    for more in ({}, {"HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}):
        found = subprocess.run(
            [sys.executable, "-c", script], env=environment | more, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert found.stdout == "b'{'\n", found.stderr
        asked.append(len(hub.requests))
    assert asked[0] == asked[1] > 0
