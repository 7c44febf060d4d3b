"""The configs against the numbers that the paper and the authors' code print."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mlp_mixer
from benchmarks import tpu_plans
from mlp_mixer.data import vtab
from mlp_mixer.models import losses
from mlp_mixer.planning.chips import parse_topology
from mlp_mixer.training import fields, optimizer, recipe

from .conftest import load_config

# Table 4: config, variant, epochs, rate, weight decay, RandAugment, mixup, dropout, stoch. depth.
TABLE_4 = [
    ("imagenet", "B/16", 300, 0.001, 0.1, 15, 0.5, 0.0, 0.1),
    ("imagenet", "L/16", 300, 0.001, 0.1, 15, 0.5, 0.0, 0.1),
    ("imagenet21k", "B/16", 300, 0.001, 0.1, 10, 0.2, 0.0, 0.1),
    ("imagenet21k", "L/16", 300, 0.001, 0.1, 20, 0.5, 0.0, 0.1),
    ("jft", "S/32", 5, 0.003, 0.03, 0, 0.0, 0.0, 0.0),
    ("jft", "B/16", 7, 0.003, 0.03, 0, 0.0, 0.0, 0.0),
    ("jft", "L/16", 7, 0.001, 0.03, 0, 0.0, 0.0, 0.0),
    ("jft", "H/14", 14, 0.001, 0.03, 0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize("row", TABLE_4, ids=lambda row: f"{row[0]}-{row[1]}")
def test_pretraining_is_table_4_of_the_paper(row):
    name, variant, epochs, lr, decay, magnitude, mixup, dropout, depth = row
    config = load_config(name, variant)
    assert config.total_epochs == epochs and config.lr == lr and config.weight_decay == decay
    assert config.augment.randaugment_magnitude == magnitude and config.mixup == mixup
    assert config.augment.randaugment_layers == (2 if magnitude else 0)
    assert config.model.dropout_rate == dropout and config.model.stoch_depth == depth
    # Section 3: the same for all.
    assert config.batch_size == 4096 and config.image_size == (224, 224)
    assert config.warmup_steps == 10_000 and config.decay == "linear" and config.grad_clip == 1.0
    assert config.optimizer == "adam"


def test_only_the_largest_model_is_split_over_devices():
    layouts = {variant: load_config("jft", variant).layout for variant in ("B/16", "L/16", "H/14")}
    assert layouts == {"B/16": "replicated", "L/16": "replicated", "H/14": "fsdp"}


# GSAM's Table 4: rho_max, rho_min, alpha.
GSAM_TABLE_4 = {
    "S/32": (0.5, 0.0, 0.2), "S/16": (0.5, 0.0, 0.6), "S/8": (0.5, 0.1, 0.1),
    "B/32": (0.7, 0.2, 0.05), "B/16": (0.5, 0.2, 0.01),
    "ViT-S/32": (0.6, 0.0, 0.4), "ViT-S/16": (0.6, 0.0, 1.0),
    "ViT-B/32": (0.6, 0.1, 0.6), "ViT-B/16": (0.6, 0.2, 0.4),
}  # fmt: skip


@pytest.mark.parametrize("variant", GSAM_TABLE_4)
def test_sam_and_gsam_are_table_4_of_the_gsam_paper(variant):
    config, sam = load_config("gsam", variant), load_config("sam", variant)
    assert (config.sam.rho_max, config.sam.rho_min, config.sam.alpha) == GSAM_TABLE_4[variant]
    # SAM as its authors define it, at the rho that is known of B/16.
    assert sam.sam.rho_max == sam.sam.rho_min == (0.2 if "ViT" in variant else 0.6)
    assert sam.sam.alpha == 0.0
    for each in (config, sam):
        module = recipe.make_model(fields.check(each), 1000)
        kind = "VisionTransformer" if "ViT" in variant else "MlpMixer"
        assert type(module).__name__ == kind and variant.endswith(each.model.variant)
        assert each.total_epochs == 300 and each.batch_size == 4096 and each.warmup_steps == 10_000
        assert each.lr == 3e-3 and each.lr * each.decay_end == pytest.approx(3e-5)
        assert each.decay == "linear" and each.weight_decay == 0.3 and each.grad_clip == 1.0
        assert each.optimizer == "adam" and each.loss == "sigmoid" and module.head_bias == -10
        # Nothing but an Inception crop and a flip.
        assert each.augment.inception_crop == 0.05 and each.augment.flip
        assert not each.augment.randaugment_layers and not each.mixup
        assert not each.model.get("stoch_depth") and not each.model.dropout_rate
        assert (
            each.batch_size // each.sam.group_size == 64 and each.data.train_split == "train[:99%]"
        )


@pytest.mark.parametrize(("variant", "drops"), [("B/16", ("late", 0.4)), ("S/32", ("early", 0.5))])
def test_late_and_early_drops_are_their_authors_commands(variant, drops):
    """Of the README and main.py of facebookresearch/dropout, 30cc113."""
    config = load_config("drop_schedule", variant)
    assert (config.drop_schedule, config.model.stoch_depth) == drops and config.drop_epochs == 50
    assert config.total_epochs == 300 and config.batch_size == 4 * 8 * 128
    assert config.lr == 4e-3 and config.lr * config.decay_end == pytest.approx(1e-6)
    assert config.decay == "cosine" and config.warmup_epochs == 50 and not config.warmup_steps
    assert config.weight_decay == 0.05 and not config.grad_clip and config.label_smoothing == 0.1
    assert (config.mixup, config.cutmix, config.cutmix_probability) == (0.8, 1.0, 0.5)
    assert not config.mixup_per_example and config.loss == "softmax" and not config.ema
    augment = config.augment
    assert augment.randaugment_form == "timm" and augment.randaugment_layers == 2
    assert (augment.randaugment_magnitude, augment.randaugment_std) == (9, 0.5)
    assert augment.random_erasing == 0.25 and not augment.color_jitter
    module = recipe.make_model(fields.check(config), 1000)
    assert module.stoch_depth_rescale and module.gelu == "exact" and module.head_bias == 0


def test_distillation_is_the_authors_config():
    """Of big_vision's configs/proj/distill/bit_i1k.py, but for what is a BiT's."""
    config = load_config("distill", "B/32,somewhere")
    assert config.teacher == "somewhere" and config.model.variant == "B/32"
    assert config.loss == "softmax" and not config.label_smoothing
    assert config.total_epochs == 1200 and config.batch_size == 4096
    assert config.data.train_split == "train[:98%]" and config.evals.minival.split == "train[99%:]"
    assert config.mixup == 1.0 and not config.mixup_per_example and not config.cutmix
    assert config.augment.inception_crop == 0.05 and config.augment.flip
    assert not config.augment.randaugment_layers and not config.model.stoch_depth
    assert config.optimizer == "adam" and config.grad_clip == 1.0
    assert config.decay == "cosine" and not config.decay_end and config.warmup_steps == 5000
    assert config.image_size == (224, 224) and config.eval_crop_fraction == 0.875
    # The best teacher that is published for these classes.
    rows = [row for row in mlp_mixer.list_pretrained() if row.num_classes == 1000]
    best = max(rows, key=lambda row: row.imagenet)
    assert load_config("distill").teacher == best.name


def test_imagenet_has_the_loss_and_splits_of_the_authors_config():
    config = load_config("imagenet", "B/16")
    assert config.loss == "sigmoid"
    assert config.data.train_split == "train[:99%]"
    assert {name: fields.split for name, fields in config.evals.items()} == {
        "minival": "train[99%:]", "val": "validation", "real": "validation", "v2": "test",
    }  # fmt: skip


def test_the_head_starts_where_the_authors_code_has_it():
    assert losses.head_bias("sigmoid", 1000) == pytest.approx(-6.9, abs=0.01)
    assert losses.head_bias("sigmoid", 21_843) == pytest.approx(-10.0, abs=0.01)


@pytest.mark.parametrize("step", [0, 1, 5_000, 10_000, 50_000, 92_896, 92_897])
def test_the_schedule_of_imagenet_is_that_of_the_authors_code(step):
    # 99 % of 1,281,167 images, 300 epochs at 4096: 92,897 steps. The multiplier falls linearly from
    # 1 at the end of the warm-up to 1e-5, and the warm-up multiplies it.
    config = load_config("imagenet", "B/16")
    total = optimizer.steps(config, "total", 1_268_355 / 4096)
    assert total == 92_897
    progress = max((step - 10_000) / (total - 10_000), 0)
    expected = 0.001 * (1e-5 + (1 - 1e-5) * (1 - progress)) * min(1, step / 10_000)
    schedule = optimizer.make_schedule(
        config.lr, config.decay, total, config.warmup_steps, config.decay_end
    )
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-4, abs=1e-10)  # float32


def test_a_step_with_the_config_is_a_step_of_the_authors_code():
    # Theirs does not multiply the decay by the rate: it is 1e-4 x the schedule's multiplier.
    config, total = load_config("imagenet", "B/16"), 92_897

    def multiplier(step):
        progress = jnp.clip((step - 10_000) / (total - 10_000), 0, 1)
        return (1e-5 + (1 - 1e-5) * (1 - progress)) * jnp.minimum(1, step / 10_000)

    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.scale(0.001),
        optax.add_decayed_weights(1e-4, {"kernel": True, "bias": False}),
        optax.scale_by_schedule(multiplier),
        optax.scale(-1.0),
    )
    schedule = optimizer.make_schedule(
        config.lr, config.decay, total, config.warmup_steps, config.decay_end
    )
    ours = optimizer.make_optimizer(config, schedule)
    rng = np.random.default_rng(0)
    params, *gradients = (
        {"kernel": rng.normal(size=(40, 30)).astype("f4"), "bias": rng.normal(size=30).astype("f4")}
        for _ in range(3)
    )
    for step in (5_000, 50_000):  # in the warm-up, and in the decay
        updates = []
        for tx, clip in ((ours, config.grad_clip), (theirs, 0.0)):
            state = optax.tree.set(tx.init(params), count=np.int32(step))

            @jax.jit
            def update(gradient, state, tx=tx, clip=clip):
                return tx.update(optimizer.mean_gradient(gradient, 1.0, clip)[0], state, params)

            _, state = update(gradients[0], state)
            updates.append(update(gradients[1], state)[0])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), *updates)


# Section 4 and appendix C, with the steps of ViT's Table 4.
@pytest.mark.parametrize(
    ("name", "steps", "dev_share"),
    [
        ("imagenet", 20_000, 1), ("cifar10", 10_000, 2), ("cifar100", 10_000, 2),
        ("pets", 500, 10), ("flowers", 500, 10),
    ],
)  # fmt: skip
def test_transfer_is_the_protocol_of_the_paper(name, steps, dev_share):
    config = load_config("transfer", f"B/16,{name}")
    assert config.total_steps == steps and config.batch_size == 512
    assert config.optimizer == "momentum" and config.decay == "cosine"
    assert config.grad_clip == 1.0 and config.weight_decay == 0.0 and config.mixup == 0.0
    assert config.sweep.learning_rates == (0.003, 0.01, 0.03, 0.06)
    assert config.sweep.dev_split == f"train[{100 - dev_share}%:]"
    assert config.sweep.train_split == f"train[:{100 - dev_share}%]"
    assert config.data.train_split == "train"


def test_vtab_has_19_tasks_of_1000_examples():
    assert len(vtab.TASKS) == 19
    for name, task in vtab.TASKS.items():
        config = load_config("transfer", f"B/16,vtab:{name}")
        assert config.data.train_split == f"train[:800]+{task.dev}"
        start, stop = task.dev.split("[")[1].strip("]").split(":")
        assert int(stop) - int(start or 0) == 200
        assert config.sweep.learning_rates == (0.003, 0.01, 0.03)
        assert config.mixup == 0.0 and config.weight_decay == 0.0 and not config.augment.get("flip")


def test_vtab_cuts_its_splits_where_the_authors_code_does():
    # Data sets without a validation split: training images, and the share in per cent before it.
    cuts = {
        "caltech101": (3060, 90), "cifar100": (50_000, 90), "pets": (3680, 80),
        "svhn": (73_257, 90), "eurosat": (27_000, 60), "resisc45": (31_500, 60),
        "clevr_count": (70_000, 90), "clevr_distance": (70_000, 90),
        "dsprites_location": (737_280, 80), "dsprites_orientation": (737_280, 80),
    }  # fmt: skip
    for name, (count, share) in cuts.items():
        first = count * share // 100
        assert vtab.task(name).dev == f"train[{first}:{first + 200}]"
    for name in vtab.TASKS.keys() - cuts.keys():
        assert vtab.task(name).dev in ("validation[:200]", "test[:200]")
    # Tests that are no split of their own.
    assert vtab.task("eurosat").test == f"train[{27_000 * 80 // 100}:]"
    assert vtab.task("resisc45").test == f"train[{31_500 * 80 // 100}:]"
    assert vtab.task("dsprites_location").test == f"train[{737_280 * 90 // 100}:]"
    assert vtab.task("clevr_count").test == vtab.task("clevr_distance").test == "validation"
    assert vtab.task("smallnorb_azimuth").test == "test[50%:]"


def test_labels_that_vtab_makes():
    # Made by hand from the definitions in the authors' code.
    objects = {"size": np.zeros(5), "pixel_coords": np.array([[0, 0, 9.2], [0, 0, 8.2]])}
    assert vtab.clevr_count(objects) == 2
    assert vtab.clevr_distance(objects) == 1  # 8.0 < 8.2 < 8.5
    location = np.array([[0, 0, 3.0], [0, 0, 12.0], [0, 0, 30.0]])
    assert vtab.kitti_distance({"type": np.array([3, 0, 2]), "location": location}) == 1
    assert vtab.kitti_distance({"type": np.array([3, 4, 5]), "location": location}) == 3
    assert [vtab.dsprites_location(x) for x in (0, 1, 2, 31)] == [0, 0, 1, 15]
    assert [vtab.dsprites_orientation(x) for x in (0, 2, 3, 39)] == [0, 0, 1, 15]


@pytest.mark.parametrize(
    ("name", "argument"),
    [("imagenet", "B16"), ("transfer", "B/16,nothing"), ("transfer", "B/16,vtab:nothing")],
)
def test_an_unknown_argument_is_refused_with_those_known(name, argument):
    with pytest.raises(ValueError, match=r"(B/16|cifar10|caltech101), "):
        load_config(name, argument)


def test_every_config_names_a_tpu_that_it_is_planned_for():
    named = tpu_plans.named()
    files = {path.stem for path in tpu_plans.CONFIGS.glob("*.py")} - {"common"}
    assert {name for name, _, _ in named} == files
    for name, argument, topology in named:
        batch = load_config(name, argument or None).batch_size
        assert batch % parse_topology(topology).devices == 0, (name, argument)
