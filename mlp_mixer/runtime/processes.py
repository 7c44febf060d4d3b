"""Several processes working on one run, one for each host of a pod."""

import importlib.util
import os
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from mlp_mixer.runtime import devices


def initialise(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    mode: str = "auto",
) -> None:
    """Joins this process with the others of the run. Must come before anything else asks jax.

    On a Cloud TPU VM, a pod of them or TPUs on GKE no argument is needed, and there it is called
    for a single host, too, because that is what makes notices of preemption arrive. On a cluster
    that jax knows (Slurm, Open MPI) mode "on" is enough. Elsewhere all of the three are needed.

    Args:
        coordinator: HOST:PORT of process 0, which all can reach.
        num_processes: how many there are.
        process_id: the number of this one.
        mode: "auto" joins where the three are given or a Cloud TPU is found, "on" always, "off"
            never.

    Raises:
        ValueError: it cannot work; says what was tried and what to give.
    """
    given = (coordinator, num_processes, process_id)
    explicit = any(value is not None for value in given)
    if mode == "off" or (mode == "auto" and not explicit and not on_cloud_tpu()):
        if explicit:
            raise ValueError("--distributed=off contradicts --coordinator and the like; drop one")
        return
    if explicit and None in given:
        raise ValueError(
            "--coordinator, --num_processes and --process_id belong together; got "
            f"{coordinator}, {num_processes} and {process_id}"
        )
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"cannot join the processes of this run ({reason}). Where jax does not know the "
            "cluster, give every process --coordinator=HOST:PORT (process 0, reachable from all), "
            "--num_processes=N and its own --process_id; for one process alone --distributed=off"
        ) from error


def on_cloud_tpu() -> bool:
    """Returns whether this is a Cloud TPU VM or a GKE container with TPUs, not a Colab notebook."""
    if devices.in_colab() or importlib.util.find_spec("libtpu") is None:
        return False
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] not in ("", "tpu"):
        return False
    return devices.has_tpu()


def from_process_0(number: Callable[[], int]) -> int:
    """Calls number() in process 0 alone, and returns its result in every process.

    Raises:
        ValueError: it failed there; process 0 itself raises the original error.
    """
    mine, failed = 0, None
    if jax.process_index() == 0:
        try:
            mine = number()
        except Exception as error:  # any: the others must not wait for an answer
            failed = error
    told = multihost_utils.broadcast_one_to_all(np.array([failed is not None, mine], np.int32))
    if failed is not None:
        raise failed
    if told[0]:
        raise ValueError("process 0 has failed; its own message says why")
    return int(told[1])
