"""dtype="auto" asks the device what it can do, not what it is called."""

import types

import pytest

from mlp_mixer.runtime import devices


@pytest.mark.parametrize(
    ("capability", "fast"),
    # NVIDIA's: V100, T4, A100, L4, H100, B200. Colab's free GPU is a T4.
    [("7.0", False), ("7.5", False), ("8.0", True), ("8.9", True), ("9.0", True), ("10.0", True)],
)
def test_old_gpus_have_no_units_for_bfloat16(capability, fast):
    gpu = types.SimpleNamespace(platform="gpu", compute_capability=capability)
    assert devices.has_fast_bfloat16(gpu) is fast


@pytest.mark.parametrize(
    ("platform", "fast"), [("tpu", True), ("gpu", True), ("METAL", False), ("other", False)]
)
def test_devices_without_a_capability_are_known_by_platform(platform, fast):
    assert devices.has_fast_bfloat16(types.SimpleNamespace(platform=platform)) is fast


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx2 avx512f avx512_vnni", False),
        ("fpu avx2 avx512f avx512_bf16", True),
        ("fpu avx2 amx_bf16 amx_tile", True),
        ("", False),
    ],
)
def test_linux_tells_what_a_cpu_can_do(flags, fast, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("XLA_FLAGS")  # of conftest.py
    devices.cpu_flags.cache_clear()
    try:
        cpu = types.SimpleNamespace(platform="cpu")
        assert devices.has_fast_bfloat16(cpu) is fast
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")  # XLA may not use them then
        assert not devices.has_fast_bfloat16(cpu)
    finally:
        devices.cpu_flags.cache_clear()


def test_other_systems_tell_nothing_of_their_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "none")
    monkeypatch.delenv("XLA_FLAGS")
    devices.cpu_flags.cache_clear()
    try:
        assert not devices.has_fast_bfloat16(types.SimpleNamespace(platform="cpu"))
    finally:
        devices.cpu_flags.cache_clear()
