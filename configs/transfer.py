"""Fine-tuning a pretrained Mixer, with the protocol of the paper (section 3 and appendix C).

    python train.py --config=configs/transfer.py:B/16,cifar10 --workdir=runs/cifar10 \\
        --config.init_from=imagenet21k/Mixer-B_16
    python train.py --config=configs/transfer.py:B/16,folder --workdir=runs/mine \\
        --config.init_from=imagenet21k/Mixer-B_16 --config.data.source=folder:PATH
    mlp-mixer plan --config=configs/transfer.py:B/16,cifar10 --topology=v5e:2x4

The argument is MODEL,DATASET. MODEL is a variant of the paper such as B/16, `nano` for the Mixer of
configs/cifar10.py:nano, whose weights cifar10/Mixer-nano come with the package, or `digits` for the
small model of configs/digits.py; these two are made for images of their own size. DATASET is a row
of DATASETS below, or vtab:TASK with one of the 19 tasks of mlp_mixer/data/vtab.py. Everything but
the head comes from init_from: a released file's name, a file, or the workdir of another run
(docs/reference/weights.md); without it the run starts from scratch. Any other image size than the
pretraining's is possible: at a whole multiple (--config.image_size=448) the token-mixing weights
are laid out by the paper's block-diagonal scheme, at any other (160x256) they are resampled
(docs/reference/input_size.md).

SGD with momentum 0.9, batch 512, clipping at 1, cosine decay, no weight decay. The paper chooses
the learning rate on held-out training images, trains again on all of them, and tests once:

    mlp-mixer sweep --config=configs/transfer.py:B/16,cifar10 --workdir=sweeps/cifar10 \\
        --config.init_from=imagenet21k/Mixer-B_16

What the paper leaves open (warm-up, training crop, VTAB's steps) is settled here as
docs/reference/recipes.md says.
"""

from typing import NamedTuple

import ml_collections

import configs.cifar10
import configs.digits
from configs import common
from mlp_mixer.data import vtab
from mlp_mixer.data.paper_sets import AVG_5

# Models that are no variant of the paper, as their configs have them.
SMALL = {"digits": configs.digits.get_config, "nano": lambda: configs.cifar10.get_config("nano")}

LEARNING_RATES = (0.003, 0.01, 0.03, 0.06)
VTAB_LEARNING_RATES = (0.003, 0.01, 0.03)


class Dataset(NamedTuple):
    source: str
    test: str  # the split to report on
    train: str  # the part of "train" to train on while the learning rate is chosen
    dev: str  # the part of "train" to choose it by
    steps: int
    warmup: int


DATASETS = {
    "imagenet": Dataset(AVG_5["ImageNet"], "validation", "train[:99%]", "train[99%:]", 20_000, 500),
    "cifar10": Dataset(AVG_5["CIFAR-10"], "test", "train[:98%]", "train[98%:]", 10_000, 500),
    "cifar100": Dataset(AVG_5["CIFAR-100"], "test", "train[:98%]", "train[98%:]", 10_000, 500),
    "pets": Dataset(AVG_5["Pets"], "test", "train[:90%]", "train[90%:]", 500, 100),
    "flowers": Dataset(AVG_5["Flowers"], "test", "train[:90%]", "train[90%:]", 500, 100),
    # Your own: --config.data.source=folder:PATH.
    "folder": Dataset("folder:images", "test", "train[:90%]", "train[90%:]", 500, 100),
    # Handwritten digits, some of each class: see mlp_mixer/data/digits.py.
    "digits": Dataset("digits", "test", "train[:90%]", "train[90%:]", 50, 5),
    "place": Dataset("digits:place", "test", "train[:90%]", "train[90%:]", 100, 10),
}


def get_config(argument: str = "B/16,cifar10") -> ml_collections.ConfigDict:
    model, _, name = argument.partition(",")
    if name not in DATASETS and not name.startswith("vtab:"):
        raise ValueError(
            f"configs/transfer.py:{argument}: write MODEL,DATASET with DATASET one of "
            f"{', '.join(DATASETS)} or vtab:TASK"
        )
    if model not in SMALL and "/" not in model:
        raise ValueError(
            f"configs/transfer.py:{argument}: write MODEL,DATASET with MODEL a variant such as "
            f"B/16, or {' or '.join(SMALL)}"
        )
    config = common.base()
    config.augment.random_crop = 0.875  # 224 of 256 pixels
    config.augment.flip = True
    config.eval_crop = "resmall"
    config.eval_crop_fraction = 0.875  # 224 of 256 pixels

    config.init_image_size = (224, 224)  # of what the paper fine-tunes
    config.init_head = "new"
    config.model.variant = model

    config.batch_size = 512
    config.optimizer = "momentum"
    config.lr = 0.03
    config.log_every_steps = 50

    # Read by `mlp-mixer sweep` only.
    config.sweep = ml_collections.ConfigDict()
    config.sweep.learning_rates = LEARNING_RATES
    if name.startswith("vtab:"):
        _set_vtab(config, name)
    else:
        dataset = DATASETS[name]
        config.data.source = dataset.source
        config.evals.test.split = dataset.test
        config.sweep.train_split, config.sweep.dev_split = dataset.train, dataset.dev
        config.total_steps, config.warmup_steps = dataset.steps, dataset.warmup
    if name == "imagenet":  # --config.evals.real.enabled=True where TFDS has prepared it
        config.evals.real = common.classification("validation", "tfds:imagenet2012_real")
        config.evals.v2 = common.classification("test", "tfds:imagenet_v2")
        config.evals.real.enabled = config.evals.v2.enabled = False
    config.eval_every_steps = max(config.total_steps // 10, 1)
    config.checkpoint_every_steps = config.eval_every_steps

    if model in SMALL:
        small = SMALL[model]()
        config.model, config.image_size = small.model, small.image_size
        config.init_image_size = small.image_size
        config.image_channels = small.image_channels
    if name == "digits":
        config.data.examples_per_class = 10
    if name == "place":  # twice the resolution of the pretraining on digits
        config.image_size = (16, 16)
        config.data.examples_per_class = 5
    if name in ("digits", "place"):
        config.data.in_memory = True
        config.augment.random_crop = 0.0
        config.augment.flip = False
        config.eval_crop_fraction = 1.0
        config.batch_size = 100  # all there are
        config.lr = 0.1 if name == "place" else 0.3
        config.log_every_steps = 5
    return config


def _set_vtab(config: ml_collections.ConfigDict, name: str) -> None:
    """1,000 examples, larger images for data sets that have them, nothing but a resize."""
    task = vtab.task(name.removeprefix("vtab:"))
    config.data.source = name
    config.data.train_split = f"{vtab.TRAIN}+{task.dev}"
    config.evals.test.split = task.test
    config.sweep.train_split, config.sweep.dev_split = vtab.TRAIN, task.dev
    config.sweep.learning_rates = VTAB_LEARNING_RATES
    config.image_size = (224, 224) if task.small else (448, 448)
    # A crop or a flip would change what some tasks ask for: a place, a count, an orientation.
    config.augment.random_crop = 1.0
    config.augment.flip = False
    config.eval_crop = "resize"
    config.eval_crop_fraction = 1.0
    config.total_steps, config.warmup_steps = 500, 100
