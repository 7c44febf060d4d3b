"""What several tests share."""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import textwrap
import types
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from . import forks

# Programs of tests run for milliseconds and are compiled for seconds: less optimised, in a quarter
# of the time.
QUICKLY = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_enable_concurrency_optimized_scheduler=false"
)
if tuple(map(int, version("jaxlib").split(".")[:2])) <= (0, 10):  # later ones refuse to start
    QUICKLY += " --xla_cpu_use_fusion_emitters=false"
# Results shall not depend on the tests' CPU: none is asked for its instructions for bfloat16.
if platform.machine() in ("x86_64", "AMD64"):
    QUICKLY += " --xla_cpu_max_isa=AVX2"
if QUICKLY not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}"
# Many tests compile the same small programs. Pytest makes this folder before its workers start, and
# they, and the commands that tests run, find it in their environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()  # lasts as long as the tests
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# So is the server of processes: it ends with the process of pytest that began.
if forks.ADDRESS not in os.environ:
    _FORKS = contextlib.ExitStack()
    _FORKS.enter_context(forks.serving())
    atexit.register(_FORKS.close)

gc.set_threshold(*forks.FEW_COLLECTIONS)

import jax  # noqa: E402 - reads what is set above
import ml_collections  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from flax import traverse_util  # noqa: E402

from mlp_mixer.cli.main import main  # noqa: E402
from mlp_mixer.models.init import shapes  # noqa: E402
from mlp_mixer.runtime import host_memory  # noqa: E402
from mlp_mixer.runtime.storage import AnyPath, as_path  # noqa: E402
from mlp_mixer.training import loop  # noqa: E402

from . import bucket as bucket_server  # noqa: E402
from . import hub as hub_server  # noqa: E402
from . import published_checkpoint  # noqa: E402

host_memory.keep()

ROOT = forks.ROOT
GOLDEN = Path(__file__).parent / "golden"
SHARED = ROOT.parent / "shared"  # data too large for a repository: not everywhere


@pytest.fixture(scope="session")
def golden() -> dict:
    """Logits that an independent implementation gave for the files of `published`."""
    return json.loads((GOLDEN / "logits.json").read_text())


@pytest.fixture(scope="session")
def published():
    """The tool that writes published-style checkpoint files."""
    return published_checkpoint


class Told(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys):
    """Calls mlp-mixer in this process, and puts back what that changes of it."""
    log = logging.getLogger("mlp_mixer")
    before = log.handlers, log.propagate, log.level

    def call(*arguments) -> Told:
        status = main([str(argument) for argument in arguments])
        return Told(status, *capsys.readouterr())

    yield call
    log.handlers, log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture
def run(command):
    """Calls a command that must succeed; returns what it prints on stdout."""

    def call(*arguments) -> str:
        told = command(*arguments)
        assert told.status == 0, told.err
        return told.out

    return call


@pytest.fixture(scope="module")
def proxy() -> Iterator[bucket_server.Proxy]:
    """What stands before a bucket gs://runs on this machine, for this process and its children."""
    if not bucket_server.is_installed():
        pytest.skip(f"{bucket_server.PACKAGE} is not installed")
    pytest.importorskip("gcsfs")
    with bucket_server.serving() as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy, request) -> Iterator[AnyPath]:
    """A folder of its own in that bucket."""
    yield as_path(f"gs://runs/{re.sub(r'[^a-z0-9]+', '_', request.node.name)}")
    proxy.delay, proxy.answer, proxy.faults = 0.0, 0, bucket_server.Faults()


@pytest.fixture
def as_notebook(monkeypatch):
    """Makes this process look like that of a notebook."""
    shell = types.SimpleNamespace(kernel=object())
    module = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", module)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[hub_server.Hub]:
    """The Hugging Face hub of this process, empty, with alice logged in."""
    pytest.importorskip("huggingface_hub")
    with hub_server.serving() as hub:
        hub.use(monkeypatch, tmp_path / "hf")
        hub.tokens["alice's"] = hub_server.User("alice")
        monkeypatch.setenv("HF_TOKEN", "alice's")
        yield hub


@pytest.fixture
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def tiny_config() -> ml_collections.ConfigDict:
    """configs/digits.py with a model and a run that take a second or two."""
    return shrink(load_config("digits"))


class Finished(NamedTuple):
    """A run of `tiny_config`: its workdir, which is for all tests to read, and what it returned."""

    workdir: Path
    result: dict[str, float]

    def copy(self, workdir: Path) -> Path:
        """A workdir to change, with the same in it."""
        return shutil.copytree(self.workdir, workdir, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return Finished(workdir, loop.train(shrink(load_config("digits")), workdir))


def nowhere_zero(module, rng: np.random.Generator, scale: float = 0.3) -> dict:
    """Random float32 parameters of a model, those included that begin as zero or one.

    Only shapes are asked of the model, so nothing is compiled.
    """
    tree = traverse_util.unflatten_dict(shapes(module), sep="/")
    return jax.tree.map(
        lambda shape: rng.normal(0, scale, shape).astype(np.float32), tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )  # fmt: skip


@contextlib.contextmanager
def x64():
    """jax.enable_x64(True), which the oldest jax does not have."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def load_config(name: str, argument: str | None = None) -> ml_collections.ConfigDict:
    """get_config of configs/NAME.py."""
    module = importlib.import_module(f"configs.{name}")
    return module.get_config() if argument is None else module.get_config(argument)


def shrink(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Makes a config's run as short and its model as small as they can be."""
    patch = config.model.get("patch_size", (16, 16))
    sizes = {
        "mixer": dict(patch_size=patch, num_blocks=2, hidden_dim=8, tokens_mlp_dim=4,
                      channels_mlp_dim=16, stoch_depth=config.model.get("stoch_depth", 0.0)),
        "vit": dict(patch_size=patch, num_blocks=1, hidden_dim=8, mlp_dim=16, num_heads=2),
        "bit": dict(stages=(1, 1), width=8, groups=4),
    }  # fmt: skip
    config.model = ml_collections.ConfigDict(sizes[config.architecture])
    config.batch_size, config.data.workers = 16, 0
    config.sam.group_size = 8
    for name, steps in (("total", 6), ("warmup", 1), ("eval_every", 3), ("checkpoint_every", 3)):
        config[f"{name}_steps"], config[f"{name}_epochs"] = steps, 0.0
    config.log_every_steps, config.sheet_examples = 2, 0
    return config


def python_with_devices(count: int, program: str) -> str:
    """What a program prints in a process with so many fake CPU devices."""
    process = forks.Fork(textwrap.dedent(program), env=with_devices(count), stderr_apart=True)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def with_devices(count: int) -> dict[str, str]:
    """The environment of a process with so many fake CPU devices."""
    flags = f"{QUICKLY} --xla_force_host_platform_device_count={count}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
