"""Which devices a command computes on, and why there are none."""

import importlib.util
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger(__name__)

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}


def has_tpu() -> bool:
    """Returns whether this machine or container has a TPU, judging by its device files."""
    return any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))


def has_gpu() -> bool:
    """Returns whether this machine or container has a GPU, of NVIDIA (also in WSL 2) or AMD."""
    named = any(Path("/dev", name).exists() for name in ("dxg", "kfd"))
    return named or any(Path("/dev").glob("nvidia[0-9]*"))


def has_fast_bfloat16(device: jax.Device) -> bool:
    """Returns whether a device multiplies matrices of bfloat16 faster than those of float32.

    Every TPU does; NVIDIA's GPUs from compute capability 8.0 on (A100, L4), so neither a T4 (7.5)
    nor a V100 (7.0); x86 CPUs with AVX-512 BF16 or AMX (AMD from Zen 4 on, Intel Xeon from Sapphire
    Rapids on), as far as Linux tells of them. Nothing is known of other devices.

    Args:
        device: a jax.Device.
    """
    if device.platform == "gpu":
        version = getattr(device, "compute_capability", "")
        major = version.partition(".")[0]
        return not major.isdigit() or int(major) >= 8  # AMD's are named gfx90a and the like
    if device.platform == "cpu":
        limited = "xla_cpu_max_isa" in os.environ.get("XLA_FLAGS", "")  # XLA is to use less
        return not limited and not BFLOAT16_INSTRUCTIONS.isdisjoint(cpu_flags())
    return device.platform == "tpu"


@cache
def cpu_flags() -> frozenset[str]:
    """Returns what the processor can do, in Linux's words; nothing on other systems."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def in_colab() -> bool:
    return "COLAB_RELEASE_TAG" in os.environ


def leave_out_libtpu() -> None:
    """Chooses the CPU where libtpu is installed for plans alone; call it before JAX looks.

    libtpu takes seconds to find no TPU, and says so by pages.
    """
    if _platforms() or in_colab() or importlib.util.find_spec("libtpu") is None:
        return
    if has_tpu() or has_gpu():
        return
    jax.config.update("jax_platforms", "cpu")
    log.info("libtpu is installed, but no TPU is here: JAX_PLATFORMS=cpu is assumed")


def _platforms() -> str | None:
    settings: Any = jax.config  # its attributes are not in its class
    return settings.jax_platforms


def problem() -> str:
    """Returns why JAX has no device to compute on; "" if it has one."""
    platforms = _platforms()
    wanted = f"JAX_PLATFORMS={platforms}" if platforms else "jax"
    try:
        jax.devices()
    except RuntimeError as error:
        return f"{wanted}: {str(error).splitlines()[0]}"
    except AssertionError:  # jax's own, where it is to use a GPU and finds none
        return f"{wanted}: there is no such device here; JAX_PLATFORMS=cpu computes on the CPU"
    return ""


def peak_bytes() -> int | None:
    """Returns the most memory that a device of this process has used; None if it does not tell."""
    told = [device.memory_stats() or {} for device in jax.local_devices()]
    return max((stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats),
               default=None)  # fmt: skip


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error of JAX says that the memory of a device was too small."""
    return isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
