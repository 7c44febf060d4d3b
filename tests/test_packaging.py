"""What is installed: the wheel, its dependencies, and what an import costs."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mlp_mixer
from mlp_mixer.runtime import storage

from .conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MINE = """
from configs import common

def get_config():
    config = common.base()
    config.data.source, config.model.patch_size = "digits", (2, 2)
    config.lr = 0.0125
    return config
"""


def python(program: str, **where) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
        **where,
    ).stdout


def pip(*arguments) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def lines(file: str) -> list[str]:
    found = (ROOT / file).read_text().splitlines()
    return [line for line in found if line and not line.startswith("#")]


def test_importing_mlp_mixer_imports_nothing_slow():
    found = python("import sys, mlp_mixer; print(*sys.modules)", cwd=ROOT).split()
    assert "mlp_mixer" in found
    slow = {"cv2", "flax", "grain", "jax", "matplotlib", "numpy", "optax", "orbax", "PIL",
            "scipy", "sklearn", "tensorflow_datasets"}  # fmt: skip
    assert not slow.intersection(found)


def test_changelog_and_citation_tell_this_version():
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest and newest[1] == citation["version"] == mlp_mixer.__version__


@pytest.mark.parametrize(("file", "what"), [("", "."), ("-dev", ".[dev]"), ("-tpu", ".[tpu]")])
def test_requirements_files_are_what_pyproject_says(file, what):
    assert lines(f"requirements{file}.txt") == [f"-e {what}"]


def pins(file: str) -> dict[str, str]:
    """The version of each package of a file."""
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
            for pin in map(Requirement, lines(file))}  # fmt: skip


def test_the_lower_bounds_are_the_versions_of_colabs_image():
    oldest = pins("constraints-colab.txt")
    assert oldest.pop("protobuf") == "6.31.1"  # see there: the image has less
    declared = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    bounds = {(canonicalize_name(one.name), str(one.specifier))
              for group in declared for one in map(Requirement, group)}  # fmt: skip
    image = {(name, f">={version}") for name, version in oldest.items()}
    assert {"jax", "flax", "gcsfs", "huggingface-hub"} <= {name for name, _ in bounds & image}
    assert not {bound for bound in bounds - image if bound[0] in oldest}


def test_what_a_tpu_installs_opens_buckets_and_the_hub():
    extras = PROJECT["optional-dependencies"]
    own = next(r.extras for r in map(Requirement, extras["tpu"]) if r.name == "mlp-mixer")
    assert own == {"gcs", "hub"}
    for scheme, library in storage._LIBRARIES.items():
        extra = {"gs": "gcs", "s3": "s3"}[scheme]
        assert library in [Requirement(line).name for line in extras[extra]]


def test_nobody_is_told_to_install_somebody_elses_package():
    # On PyPI "mlp-mixer" is another project.
    for kind in ("*.py", "*.md", "*.sh", "*.yaml", "*.ipynb"):
        for path in ROOT.rglob(kind):
            parts = set(path.relative_to(ROOT).parts)
            if not parts & {".venv", "build"} and path != Path(__file__):
                told = re.search(r"pip install( -\S+)* ['\"\\]*mlp-mixer\b", path.read_text())
                assert not told, path


def test_the_lock_satisfies_every_declared_version():
    locked = pins("requirements-lock.txt")
    extras = PROJECT["optional-dependencies"]
    for declared in map(Requirement, [*PROJECT["dependencies"], *extras["hub"], *extras["dev"]]):
        if declared.name not in (PROJECT["name"], "setuptools"):
            name = canonicalize_name(declared.name)
            assert declared.specifier.contains(locked[name], prereleases=True), declared


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(tmp_path):
    if Version(version("setuptools")) < Version("77"):
        pytest.skip("building needs setuptools 77")
    source, installed, empty = (tmp_path / name for name in ("source", "installed", "empty"))
    for folder in ("mlp_mixer", "configs"):
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip("wheel", "--no-build-isolation", "--no-deps", f"--wheel-dir={tmp_path}", source)
    [wheel] = tmp_path.glob("*.whl")
    pip("install", "--no-deps", f"--target={installed}", wheel)

    (empty / "configs").mkdir(parents=True)
    (empty / "configs" / "mine.py").write_text(MINE)
    here = dict(cwd=empty, env=os.environ | {"PYTHONPATH": str(installed)})
    ended = subprocess.run([sys.executable, "-m", "mlp_mixer", "--version"], check=True,
                           capture_output=True, text=True, **here)  # fmt: skip
    assert ended.stdout.strip() == mlp_mixer.__version__
    found = python(
        """
        import json, mlp_mixer
        from importlib import resources
        from mlp_mixer.training import config_files
        print(json.dumps([
            mlp_mixer.__file__,
            str(config_files.find("digits")),
            mlp_mixer.config("digits").data.source,
            mlp_mixer.config("mine").lr,
            mlp_mixer.config("configs/mine.py").lr,
            (resources.files("mlp_mixer") / "models" / "imagenet_classes.tsv").is_file(),
            mlp_mixer.load("cifar10/Mixer-nano")[0].num_classes,
            (resources.files("mlp_mixer") / "py.typed").is_file(),
        ]))
        """,
        **here,
    )
    assert json.loads(found) == [
        str(installed / "mlp_mixer" / "__init__.py"), str(installed / "configs" / "digits.py"),
        "digits", 0.0125, 0.0125, True, 10, True,
    ]  # fmt: skip
    assert (installed / "bin" / "mlp-mixer").is_file()
