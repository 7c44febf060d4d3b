"""Where compiled programs are kept."""

import os
import subprocess
import sys

import pytest

from ..conftest import ROOT

PROGRAM = """
import jax
from mlp_mixer.runtime import compile_cache
from mlp_mixer.runtime import host_memory
host_memory.keep()
compile_cache.MIN_SECONDS = 0.0
print(compile_cache.enable())
jax.jit(lambda x: x * 3)(2.0)
"""


def run(**environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=kept | environment, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout.strip()  # fmt: skip


def files(folder) -> set[str]:
    return {path.name for path in folder.rglob("*-cache")}


@pytest.mark.slow
def test_compiled_programs_are_found_again_in_the_users_cache(tmp_path):
    folder = run(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "mlp_mixer" / "jax"))
    kept = files(tmp_path)
    assert kept
    assert run(XDG_CACHE_HOME=str(tmp_path)) == folder
    assert files(tmp_path) == kept


@pytest.mark.slow
def test_a_folder_that_is_set_is_used(tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    assert run(XDG_CACHE_HOME=str(ours), JAX_COMPILATION_CACHE_DIR=str(other)) == str(other)
    assert not ours.exists()


@pytest.mark.skipif(os.name != "posix", reason="a path through a file")
def test_without_a_place_for_it_a_command_runs_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(XDG_CACHE_HOME=str(tmp_path / "file")) == "None"
