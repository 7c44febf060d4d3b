"""Plans against the paper's numbers, arithmetic, and figures that others compiled."""

import importlib.util
import os
import textwrap

import jax
import pytest

import mlp_mixer
from mlp_mixer.models import vit
from mlp_mixer.models.init import init
from mlp_mixer.planning import compiler, estimate, hlo, picture, plan
from mlp_mixer.planning.chips import CHIPS, GIB, parse_topology
from mlp_mixer.planning.estimate import Estimate
from mlp_mixer.training.recipe import make_model, make_recipe, random_params

from ..conftest import load_config

pytestmark = pytest.mark.slow

# 4 iterations of a body of 10 + 1 cycles, and 100 + 7 before and after. In HBM: 4096 bytes read and
# 2048 written by %big, 4096 read by the copy, 64 read by each slice of %stack and 64 written.
MODULE = textwrap.dedent("""\
    HloModule jit_step, is_scheduled=true

    %inside (p: f32[4,16], i: s32[]) -> f32[16] {
      %p = f32[4,16]{1,0:T(4,128)} parameter(0)
      %i = s32[]{:T(128)S(6)} parameter(1)
      ROOT %piece = f32[1,16]{1,0:T(1,128)} dynamic-slice(%p, %i), dynamic_slice_sizes={1,16}
    }

    %body (t: (f32[4,16], s32[])) -> (f32[4,16], s32[]) {
      %t = (f32[4,16]{1,0:T(4,128)}, s32[]{:T(128)S(1)}) parameter(0)
      %stack = f32[4,16]{1,0:T(4,128)} get-tuple-element(%t), index=0
      %n = s32[]{:T(128)S(1)} get-tuple-element(%t), index=1
      %slice = f32[16]{0:T(128)} fusion(%stack, %n), kind=kLoop, calls=%inside, \
backend_config={"window_config":{"estimated_cycles":"10"}}
      %add = s32[]{:T(128)S(1)} add(%n, %n), backend_config={"estimated_cycles":"1"}
      ROOT %out = (f32[4,16]{1,0:T(4,128)}, s32[]{:T(128)S(1)}) tuple(%stack, %add)
    }

    %condition (t: (f32[4,16], s32[])) -> pred[] {
      %t = (f32[4,16]{1,0:T(4,128)}, s32[]{:T(128)S(1)}) parameter(0)
      %most = s32[]{:T(128)} constant(4)
      ROOT %less = pred[]{:T(128)S(1)} compare(%most, %most), direction=LT
    }

    ENTRY %main (a: f32[1024], s: (f32[4,16], s32[])) -> bf16[1024] {
      %a = f32[1024]{0:T(1024)} parameter(0)
      %s = (f32[4,16]{1,0:T(4,128)}, s32[]{:T(128)S(1)}) parameter(1)
      %big = bf16[1024]{0:T(1024)(128)(2,1)} fusion(%a), kind=kLoop, calls=%inside, \
metadata={op_name="jit(step)/gelu"}, backend_config={"window_config":{"estimated_cycles":"100"}}
      %copy = (f32[1024]{0:T(1024)S(1)}, f32[1024]{0:T(1024)}, u32[]{:S(2)}) copy-start(%a)
      %near = f32[1024]{0:T(1024)S(1)} copy-done(%copy)
      %sum = f32[1024]{0:T(1024)S(1)} all-reduce(%near), channel_id=1, \
replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%inside
      %all = (f32[1024]{0:T(1024)S(1)}, f32[4096]{0:T(1024)S(1)}) all-gather-start(%sum), \
replica_groups=[2,4]<=[8], dimensions={0}
      %gathered = f32[4096]{0:T(1024)S(1)} all-gather-done(%all)
      %loop = (f32[4,16]{1,0:T(4,128)}, s32[]{:T(128)S(1)}) while(%s), \
condition=%condition, body=%body
      ROOT %out = f32[1024]{0:T(1024)S(1)} negate(%sum), backend_config={"estimated_cycles":"7"}
    }
    """)


@pytest.fixture
def needs_libtpu(monkeypatch):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    monkeypatch.delenv("XLA_FLAGS")  # of conftest.py: libtpu's compiler knows no flags for CPUs


def test_a_loops_cycles_and_bytes_count_once_per_iteration():
    module = hlo.parse(MODULE)
    assert module.cycles == 100 + 4 * (10 + 1) + 7
    assert module.hbm_bytes == (4096 + 2048) + 4096 + 4 * (64 + 64)
    [big] = [o for o in module.operations if o.name == "big"]
    assert (big.cycles, big.source, big.times) == (100, "jit(step)/gelu", 1)
    known = MODULE.replace("body=%body", 'body=%body, {"known_trip_count":{"n":"3"}}')
    assert hlo.parse(known).cycles == 100 + 3 * (10 + 1) + 7


def test_communication_is_found_with_its_bytes_and_devices():
    assert hlo.parse(MODULE).collectives == [
        hlo.Collective("all-gather", devices=4, count=1, bytes=4 * 4096),
        hlo.Collective("all-reduce", devices=8, count=1, bytes=4096),
    ]


# As libtpu 0.0.52 writes it: the gather of %w runs in %product, and each of its three parts, which
# are fusions, names it. The 900 cycles of %alone are not its.
OVERLAPPED = textwrap.dedent("""\
    HloModule jit_step, is_scheduled=true

    %fused_computation.1 (p.1: bf16[128,64]) -> (bf16[128,64], bf16[512,64], u32[]) {
      %p.1 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
      %all-gather.1 = bf16[512,64]{1,0:T(8,128)(2,1)} all-gather(%p.1), GATHER
      ROOT %custom-call.1 = (bf16[128,64]{1,0:T(8,128)(2,1)}, bf16[512,64]{1,0:T(8,128)(2,1)}, \
u32[]{:S(2)}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
    }

    %async_collective_fusion.2 (p.2: bf16[128,64], s.2: u32[], x.2: f32[8,8]) -> \
(f32[8,8], bf16[128,64], u32[]) {
      %p.2 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
      %s.2 = u32[]{:S(2)} parameter(1)
      %x.2 = f32[8,8]{1,0:T(8,128)} parameter(2)
      %all-gather.2 = bf16[512,64]{1,0:T(8,128)(2,1)} all-gather(%p.2), GATHER
      ROOT %all = (f32[8,8]{1,0:T(8,128)}, bf16[128,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
tuple(%x.2, %p.2, %s.2)
    }

    %fused_computation.3 (p.3: bf16[128,64], s.3: u32[]) -> bf16[512,64] {
      %p.3 = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
      %s.3 = u32[]{:S(2)} parameter(1)
      %all-gather.3 = bf16[512,64]{1,0:T(8,128)(2,1)} all-gather(%p.3), GATHER
      ROOT %custom-call.3 = bf16[512,64]{1,0:T(8,128)(2,1)} custom-call(%all-gather.3, %s.3), \
custom_call_target="AsyncCollectiveDone"
    }

    ENTRY %main (w: bf16[128,64], x: f32[8,8]) -> bf16[512,64] {
      %w = bf16[128,64]{1,0:T(8,128)(2,1)} parameter(0)
      %x = f32[8,8]{1,0:T(8,128)} parameter(1)
      %start = (bf16[128,64]{1,0:T(8,128)(2,1)}, bf16[512,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
fusion(%w), kind=kCustom, output_to_operand_aliasing={{0}: (0, {})}, calls=%fused_computation.1
      %state = u32[]{:S(2)} get-tuple-element(%start), index=2
      %product = (f32[8,8]{1,0:T(8,128)}, bf16[128,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
fusion(%w, %state, %x), kind=kOutput, output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, \
calls=%async_collective_fusion.2, backend_config={"window_config":{"estimated_cycles":"500"}}
      %alone = u32[]{:S(2)} negate(%state), backend_config={"estimated_cycles":"900"}
      ROOT %whole = bf16[512,64]{1,0:T(8,128)(2,1)} fusion(%w, %state), kind=kCustom, \
calls=%fused_computation.3
    }
    """).replace(
    "GATHER",
    'channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="0"}',
)


def test_a_gather_fused_into_work_counts_once_with_its_cycles():
    module = hlo.parse(OVERLAPPED)
    assert module.cycles == 500 + 900
    gather, product = (128 + 512) * 64 * 2, 2 * 8 * 8 * 4
    assert module.hbm_bytes == gather + product
    assert module.collectives == [hlo.Collective("all-gather", 4, 1, 512 * 64 * 2, cycles=500)]


def test_a_sum_fused_with_a_slice_of_it_is_a_reduce_scatter():
    text = MODULE.replace(
        "ROOT %piece = f32[1,16]{1,0:T(1,128)} dynamic-slice(%p, %i)",
        "%sums = f32[4,16]{1,0:T(4,128)} all-reduce(%p), replica_groups={{0,1,2,3}}\n"
        "  ROOT %piece = f32[1,16]{1,0:T(1,128)} dynamic-slice(%sums, %i)",
    )
    scatters = [c for c in hlo.parse(text).collectives if c.kind == "reduce-scatter"]
    # %inside is called once by %big and 4 times by the loop
    assert scatters == [hlo.Collective("reduce-scatter", 4, 5, 5 * 4 * 16 * 4)]


def test_communication_beside_work_costs_what_the_work_does_not():
    topology = parse_topology("v5e:2x4")
    milliseconds = int(topology.chip.mhz * 1e3)  # in cycles
    for covered, waiting in ((4, 3.0), (100, 0.0)):
        fused = hlo.Collective("all-gather", 8, 1, 800_000_000, covered * milliseconds)  # 7 ms
        program = compiler.Program(True, {}, cycles=100 * milliseconds, collectives=(fused,))
        made = Estimate(program, topology, 8)
        assert made.ici_seconds == pytest.approx(7e-3)
        assert made.waiting_seconds == pytest.approx(waiting * 1e-3)
        assert made.step_seconds == pytest.approx((100 + waiting) * 1e-3)
        assert f"7.0 ms of communication ({7 - waiting:.1f} ms of it beside" in plan.describe(
            made, 1
        )


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("[4,2]<=[8]", 2),
        ("mesh['slice'=2,'data'=4] {'slice','data'}", 8),
        ("mesh['slice'=2,'data'=4] {'data'}", 4),
        ("mesh['slice'=2,'data'=4], device_ids=([2,4]T(1,0)) {'slice'}", None),
    ],
)
def test_groups_of_devices_are_read_in_every_form_or_refused(groups, devices):
    text = MODULE.replace("{{0,1,2,3,4,5,6,7}}", groups)
    if devices is None:
        with pytest.raises(ValueError, match="groups of devices as is not known here: mesh"):
            hlo.parse(text)
    else:
        [found] = [one for one in hlo.parse(text).collectives if one.kind == "all-reduce"]
        assert (found.devices, found.bytes) == (devices, 4096)


@pytest.mark.parametrize(
    ("variant", "gmacs"),
    [("S/32", 1.002), ("B/16", 12.601), ("H/14", 120.989)],
)
def test_arithmetic_of_the_variants_is_that_of_the_paper(variant, gmacs):
    macs = compiler.macs(mlp_mixer.create(variant, num_classes=0))
    assert macs / 1e9 == pytest.approx(gmacs, abs=6e-4)


def test_arithmetic_of_vit_is_the_published():
    # 17.6 GFLOPs of multiplications and additions as timm and fvcore count them.
    assert compiler.macs(vit.create("B/16")) / 1e9 == pytest.approx(17.58, abs=0.03)


def test_adam_needs_twelve_bytes_a_parameter():
    recipe = make_recipe(load_config("imagenet", "B/16"), 1000, 1_268_355)
    params = jax.eval_shape(lambda: random_params(load_config("imagenet"), recipe.module))
    state = jax.eval_shape(recipe.new_state, params)
    shardings = recipe.layout.shardings(state)
    assert compiler.bytes_of(state.params, shardings.params) == 4 * 59_880_472
    counts = 8  # two numbers of steps
    assert compiler.bytes_of(state.opt_state, shardings.opt_state) == 8 * 59_880_472 + counts


@pytest.mark.parametrize(
    ("topology", "mcycles", "images", "rate", "mfu"),
    [
        # Compiled by others; images a device, images a second and device.
        ("v5e:2x4", 169.99, 128, 1129, 0.43),
        ("v3:2x2", 118.58, 64, 507, 0.62),
        ("v4:2x2x1", 94.96, 128, 1415, 0.39),
        ("v6e:2x4", 81.67, 128, 2743, 0.23),
    ],
)
def test_cycles_become_the_throughput_that_others_computed(topology, mcycles, images, rate, mfu):
    topology = parse_topology(topology)
    flops = 3 * 2 * 12.601e9 * images
    program = compiler.Program(True, {}, cycles=mcycles * 1e6, flops=flops)
    made = Estimate(program, topology, images * topology.devices)
    assert made.rate / topology.chip.cores == pytest.approx(rate, rel=0.01)
    assert made.mfu == pytest.approx(mfu, abs=0.007)


def test_clocks_agree_with_peaks():
    # A product of two 8192 x 8192 matrices at peak, in millions of cycles of a device.
    ideal = {"v2": 33.55, "v3": 16.78, "v4": 4.19, "v5e": 8.39, "v5p": 4.19, "v6e": 2.10,
             "tpu7x": 2.10}  # fmt: skip
    for kind, chip in CHIPS.items():
        seconds = 2 * 8192**3 / (chip.peak / chip.cores)
        assert seconds * chip.mhz == pytest.approx(ideal[kind], rel=0.03), kind


def test_a_sum_sends_all_but_the_own_share_twice():
    topology = parse_topology("v5e:2x4")  # two axes, one link of 50 GB/s each
    reduce = hlo.Collective("all-reduce", 8, 1, 800_000_000)
    assert estimate.ici_seconds(reduce, topology) == pytest.approx(2 * 7 / 8 * 0.8 / 100)
    gather = hlo.Collective("all-gather", 8, 1, 800_000_000)
    assert estimate.ici_seconds(gather, topology) == pytest.approx(7 / 8 * 0.8 / 100)
    assert parse_topology("v5e:16x16").ici_rate == 2 * topology.ici_rate  # the ends are linked


def test_a_step_takes_its_slower_part_plus_communication():
    topology = parse_topology("v5e:2x4")
    sums = [hlo.Collective("all-reduce", 8, 1, 800_000_000)]
    seconds = {}
    for gigabytes in (0, 1000):  # against a second of arithmetic
        program = compiler.Program(
            True, {}, cycles=topology.chip.mhz * 1e6, hbm_bytes=gigabytes * 1e9, collectives=sums
        )
        seconds[gigabytes] = Estimate(program, topology, 8).step_seconds
    assert seconds[0] == pytest.approx(1 + 2 * 7 / 8 * 0.8 / 100)
    assert seconds[1000] == pytest.approx(1000e9 / topology.hbm_rate + 2 * 7 / 8 * 0.8 / 100)


def test_bars_of_a_plan_add_up_to_its_memory():
    topology = parse_topology("v5e:2x4")
    parts = (
        "parameters",
        "optimizer",
        "batch",
        "teacher",
        "padding",
        "outputs",
        "activations",
        "code",
    )
    memory = {part: GIB / 2 for part in parts}
    axes = picture.draw({"a": Estimate(compiler.Program(True, memory, cycles=1), topology, 8)}).axes
    assert sum(bar.get_width() for bar in axes[0].patches) == len(parts) / 2


def test_an_evaluation_has_no_hours_in_its_table():
    topology = parse_topology("v5e:2x4")
    made = {
        name: Estimate(compiler.Program(fits, {"x": GIB}, cycles=1e6), topology, 8)
        for name, fits in (("a", True), ("b", False))
    }
    heading, *rows = plan.Plans(made, 1).summary()
    assert heading[-1] == "ms of ICI" and {len(row) for row in rows} == {len(heading)}
    heading_of_training, *rows_of_training = plan.Plans(made, 2).summary()
    assert heading_of_training == (*heading, "hours", "chip-hours")
    assert [row[:-2] for row in rows_of_training] == rows


def test_the_fastest_that_fits_is_recommended():
    topology = parse_topology("v5e:2x4")
    plans = {
        name: Estimate(compiler.Program(fits, {"x": GIB}, cycles=cycles), topology, 8)
        for name, fits, cycles in (("a", True, 100), ("b", True, 98), ("c", False, 0))
    }
    assert "recommended: a" in plan.recommend(plans)  # b is not faster but for noise
    assert "recommended: b" in plan.recommend({"slow": plans["a"], "b": plans["b"]} | {
        "slow": Estimate(compiler.Program(True, {}, cycles=150), topology, 8)})  # fmt: skip
    assert "none of these fits" in plan.recommend({"c": plans["c"]})


def test_a_plan_tells_what_it_compiles_before_each_wait(monkeypatch, capsys, run):
    told = []

    def make(config, num_classes, examples, topology, evaluation):
        told.append(capsys.readouterr())
        return Estimate(compiler.Program(True, {}, cycles=1e6), parse_topology(topology), 8), 6

    monkeypatch.setattr(plan, "make", make)
    last = run("plan", "--config=imagenet", "--topology", "v5e:2x2", "v6e:2x2", "--compare")
    assert len(told) == 10 and "compiling 7 of 10, v6e:2x2 accum_steps=1:" in told[6].err
    assert told[6].out.startswith("v6e:2x2 as it is\n  4 chips")
    words, table, *recommended, _ = last.split("\n\n")
    assert words.startswith("v6e:2x2 fsdp, accum_steps=1\n")
    rows = [line.split("  ")[0] for line in table.splitlines()]
    assert len(rows) == 12 and "v6e:2x2 accum_steps=1, remat" in rows
    assert [line.partition(" (")[0] for line in recommended] == [
        "recommended: v5e:2x2 as it is", "recommended: v6e:2x2 as it is",
    ]  # fmt: skip


def test_the_variants_are_such_as_the_architecture_has():
    tried = {name: (c.layout, c.accum_steps, c.remat)
             for name, c in plan.variants(load_config("jft", "H/14"))}  # fmt: skip
    assert tried == {
        "as it is": ("fsdp", 0, False),
        "accum_steps=1": ("fsdp", 1, False),
        "accum_steps=1, remat": ("fsdp", 1, True),
        "replicated": ("replicated", 0, False),
        "replicated, accum_steps=1": ("replicated", 1, False),
    }
    of_bit = list(plan.variants(load_config("permutation", "cifar10,bit,original")))
    for _, config in of_bit:
        make_recipe(config, 10, 50_000)  # of the Mixer only: remat
    assert [name for name, _ in of_bit] == [
        "as it is", "accum_steps=1", "fsdp", "fsdp, accum_steps=1",
    ]  # fmt: skip


def test_plans_printed_one_by_one_survive_a_later_failure(monkeypatch, command):
    def make(config, num_classes, examples, topology, evaluation):
        if topology == "v6e:2x2":
            raise ValueError("the compiler died")
        return Estimate(compiler.Program(True, {}, cycles=1e6), parse_topology(topology), 8), 6

    monkeypatch.setattr(plan, "make", make)
    told = command("plan", "--config=imagenet:B/16", "--topology", "v5e:2x2", "v6e:2x2")
    assert told.status == 1 and "the compiler died" in told.err
    assert told.out.startswith("v5e:2x2\n  4 chips")


def test_what_cannot_be_planned_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"unknown topology 'v5litepod-8'.*such as v5e:4x4"):
        parse_topology("v5litepod-8")
    config = load_config("imagenet")
    config.data.source = "folder:mine"
    with pytest.raises(ValueError, match=r"not known here.*--num-classes and --examples"):
        plan.data_size(config, None, None)
    assert plan.data_size(config, 7, 900) == (7, 900)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"libtpu is not installed.*pip install libtpu"):
        compiler.isolated(len, ())


def test_a_crash_of_the_compiler_is_one_message(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match="libtpu's compiler died"):
        compiler.isolated(os.abort)


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("I1127 09:05 a.cc:1] ok\nF1127 09:05 b.cc:2] no memory\n", "no memory"),
        ("ok\nb.cc:2: Check failed: n > 0\nstack\n", "b.cc:2: Check failed: n > 0"),
        # libtpu 0.0.21.1 of Colab's image with its jax 0.7.2
        ("*** SIGSEGV (@0x7ca0), see go/stacktraces received by PID 1\nE1127 core\n", "SIGSEGV"),
        ("first\nlast\n\n", "last"),
        (
            "",
            "it left no message; there may be too little memory, or the script that called "
            "this needs `if __name__ == '__main__':`, as a new process reads it again",
        ),
    ],
)
def test_a_crash_gives_its_reason_and_a_remedy(stderr, reason):
    message = compiler._last_words(stderr)
    assert f"compiler died: {reason}. Where libtpu does not fit jax {jax.__version__}" in message
    assert "pip install 'jax[tpu]'" in message


def test_the_compilers_complaint_says_how_much_memory_is_needed():
    message = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory " \
        "space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G."  # fmt: skip
    assert hlo.memory_needed(message) == 20.5 * GIB
    assert hlo.memory_needed("INTERNAL: Mosaic failed") is None


def test_a_compiled_step_sums_each_gradient_once(needs_libtpu, tiny_config, tmp_path):
    """With a teacher, which has no gradient, but takes room and a forward pass."""
    module = make_model(tiny_config, 10)
    teacher = module.clone(num_blocks=5)
    tiny_config.teacher, tiny_config.label_smoothing = str(tmp_path / "teacher.npz"), 0.0
    mlp_mixer.save(tiny_config.teacher, teacher, init(teacher))
    program, steps = compiler.isolated(compiler.train_program, tiny_config, 10, 1437, "v5e:2x2")
    macs = 3 * compiler.macs(module) + compiler.macs(teacher)
    assert program.flops == 2 * macs * tiny_config.batch_size / 4
    assert program.memory["teacher"] == compiler.bytes_of(init(teacher))
    params = jax.eval_shape(lambda: random_params(tiny_config, module))
    size = compiler.bytes_of(params)
    assert program.fits and program.cycles > 0 and steps == 6
    assert program.memory["parameters"] == size
    [collective] = program.collectives
    assert (collective.kind, collective.devices) == ("all-reduce", 4)
    assert collective.bytes == pytest.approx(size, abs=64)  # and the sums of the metrics


def test_a_v5es_chips_sum_gradients_during_the_backward_pass(needs_libtpu):
    """In two parts. If sums ran alone, all of their time would be waiting.

    Here, 0.73 of it is: the last gradients of so small a model have nothing to hide behind.
    """
    config = load_config("imagenet", "B/16")
    config.model.num_blocks, config.batch_size, config.accum_steps = 1, 16 * 4, 2
    program, _ = compiler.isolated(compiler.train_program, config, 10, 10**6, "v5e:2x2")
    estimate = Estimate(program, parse_topology("v5e:2x2"), config.batch_size)
    assert 0 < estimate.waiting_seconds < 0.8 * estimate.ici_seconds


def test_the_plan_of_an_evaluation_is_one_devices_forward_pass(monkeypatch, tiny_config):
    """Without libtpu: what would be compiled for a TPU is looked at instead."""
    tiny_config.batch_size = 64
    monkeypatch.setattr(compiler, "devices_of", lambda topology: topology.devices * jax.devices())
    monkeypatch.setattr(compiler, "compile_program", lambda lowered, parts, flops, options: (
        lowered.as_text(), flops))  # fmt: skip
    (text, flops), steps = compiler.eval_program(tiny_config, 10, 1437, "v5e:2x2")
    assert "tensor<16x8x8x1xui8>" in text and "tensor<16x10xf32>" in text
    assert (flops, steps) == (2 * compiler.macs(make_model(tiny_config, 10)) * 16, 1)


@pytest.mark.parametrize("rho_max", [0.0, 0.05])
def test_sam_takes_gradients_twice_and_a_teacher_none(rho_max, monkeypatch, tiny_config, tmp_path):
    """Without libtpu, likewise."""
    module = make_model(tiny_config, 10)
    tiny_config.sam.rho_max = tiny_config.sam.rho_min = rho_max
    tiny_config.teacher, tiny_config.label_smoothing = str(tmp_path / "teacher.npz"), 0.0
    teacher = module.clone(num_blocks=5)
    mlp_mixer.save(tiny_config.teacher, teacher, init(teacher))
    monkeypatch.setattr(compiler, "devices_of", lambda topology: jax.devices()[:1])
    monkeypatch.setattr(compiler, "compile_program", lambda lowered, parts, flops: flops)
    flops, _ = compiler.train_program(tiny_config, 10, 1437, "v5e:1x1")
    macs = (6 if rho_max else 3) * compiler.macs(module) + compiler.macs(teacher)
    assert flops == 2 * macs * tiny_config.batch_size


def test_a_plan_of_an_evaluation_needs_less_than_its_training(needs_libtpu, tiny_config):
    trained, evaluated = (
        compiler.isolated(function, tiny_config, 10, 1437, "v5e:1x1")[0]
        for function in (compiler.train_program, compiler.eval_program)
    )
    assert trained.flops == 3 * evaluated.flops
    assert trained.cycles > evaluated.cycles > 0
    assert evaluated.fits and set(evaluated.memory) >= {"parameters", "batch", "activations"}
    assert "optimizer" not in evaluated.memory


def test_what_libtpu_does_not_know_is_refused(needs_libtpu, tiny_config):
    with pytest.raises(ValueError, match="does not give the topology v5e:3x5"):
        compiler.isolated(compiler.train_program, tiny_config, 10, 1437, "v5e:3x5")


def test_hours_of_a_short_run_are_not_told_as_none():
    texts = [plan.hours(x) for x in (0.0123, 0.5, 9.9, 12.34, 1234.5)]
    assert texts == ["0.012", "0.5", "9.9", "12.3", "1,234"]
