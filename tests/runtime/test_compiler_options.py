"""Compiler options: what a version of XLA does not know is left out, and told."""

import jax
import pytest

from mlp_mixer.runtime import compiler_options
from mlp_mixer.runtime.mesh import make_mesh

KNOWN = {"xla_cpu_enable_fast_math": False}


@pytest.fixture
def mesh(monkeypatch):
    """A function that returns a mesh of one device, whose kind has the options that it is given."""
    device = jax.devices()[0]

    def give(options):
        monkeypatch.setitem(compiler_options.OPTIONS, device.device_kind, options)
        return make_mesh([device])

    return give


def test_options_that_the_compiler_lost_do_not_end_a_run(mesh, caplog):
    given = mesh({"xla_cpu_was_renamed": "1", **KNOWN, "xla_cpu_is_gone": True})
    assert compiler_options.options_for(given) == KNOWN
    assert [record.args[1] for record in caplog.records] == [
        "xla_cpu_was_renamed",
        "xla_cpu_is_gone",
    ]


def test_a_wrong_value_is_not_mistaken_for_a_lost_option(mesh):
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_enable_fast_math"):
        compiler_options.options_for(mesh({"xla_cpu_enable_fast_math": "perhaps"}))


@pytest.mark.parametrize("variable", ["LIBTPU_INIT_ARGS", "XLA_FLAGS"])
def test_what_the_environment_sets_stays_as_it_is_there(mesh, monkeypatch, variable):
    # XLA itself read the variables when it was loaded, so they are nothing to it here.
    monkeypatch.setenv(variable, "--a=b --xla_cpu_enable_fast_min_max=true --xla_cpu_enable_fast")
    given = mesh({"xla_cpu_enable_fast_min_max": False, **KNOWN})
    assert compiler_options.options_for(given) == KNOWN


def test_one_device_has_no_options_for_sums_over_devices(mesh, monkeypatch):
    sums = {"xla_cpu_enable_fast_min_max": False}
    monkeypatch.setattr(compiler_options, "OVERLAPPED_SUMS", sums)
    assert compiler_options.options_for(mesh(KNOWN | sums)) == KNOWN
