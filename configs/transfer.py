"""Fine-tuning a pretrained Mixer, with the protocol of the paper (section 3 and appendix C).

    python train.py --config=configs/transfer.py:B/16,cifar10 --workdir=runs/cifar10 \\
        --config.init_from=imagenet21k/Mixer-B_16
    python train.py --config=configs/transfer.py:B/16,folder --workdir=runs/mine \\
        --config.init_from=imagenet21k/Mixer-B_16 --config.data.source=folder:PATH

The argument is MODEL,DATASET. MODEL is a variant of the paper such as B/16, or `digits` for the
small model of configs/digits.py. DATASET is a row of DATASETS below. Everything but the head comes
from init_from: a released file's name, a file, or the workdir of another run (docs/weights.md);
without it the run starts from scratch. Any other image size than the pretraining's is possible: at
a whole multiple (--config.image_size="(448,448)") the token-mixing weights are laid out by the
paper's block-diagonal scheme, at any other ("(160,256)") they are resampled (docs/input_size.md).

SGD with momentum 0.9, batch 512, clipping at 1, cosine decay, no weight decay. The paper chooses
the rate from 0.003, 0.01, 0.03 and 0.06 on held-out training images; the warm-up is from the
authors' code (the paper does not say).
"""

import ml_collections
from ml_collections.config_dict import placeholder

import configs.digits
from configs import common

# Data set: source, splits to train and test on, steps, warm-up steps.
DATASETS = {
    "imagenet": ("tfds:imagenet2012", "train", "validation", 20_000, 500),
    "cifar10": ("tfds:cifar10", "train", "test", 10_000, 500),
    "cifar100": ("tfds:cifar100", "train", "test", 10_000, 500),
    "pets": ("tfds:oxford_iiit_pet", "train", "test", 500, 100),
    "flowers": ("tfds:oxford_flowers102", "train", "test", 500, 100),
    "folder": ("folder:images", "train", "test", 500, 100),  # your own: --config.data.source
    "place": ("digits:place", "train", "test", 100, 10),  # the demo's: see data/digits.py
}


def get_config(argument: str = "B/16,cifar10") -> ml_collections.ConfigDict:
    model, _, dataset = argument.partition(",")
    if dataset not in DATASETS:
        raise ValueError(
            f"configs/transfer.py:{argument}: write MODEL,DATASET with DATASET one of "
            f"{', '.join(DATASETS)}"
        )
    config = common.base()

    source, train_split, test_split, steps, warmup = DATASETS[dataset]
    config.data.source = source
    config.data.train_split = train_split
    config.evals.test.split = test_split
    config.augment.inception_crop = 0.05  # smallest share of the area
    config.augment.flip = True
    config.eval_crop = 0.875

    config.init_from = placeholder(str)  # .npz file or workdir
    config.init_image_size = (224, 224)  # that the weights of init_from were trained at
    config.init_patch_size = placeholder(tuple)  # likewise; the model's where it is not given
    config.init_resize = "auto"  # to image_size: auto, tile or resample; see weights/resolution.py
    config.init_head = "new"  # or keep, where the classes stay
    config.model.variant = model
    config.model.gelu = "tanh"  # or exact, for weights that were trained in timm

    config.batch_size = 512
    config.total_steps = steps
    config.optimizer = "momentum"
    config.lr = 0.03
    config.warmup_steps = warmup

    config.log_every_steps = 50
    config.eval_every_steps = max(steps // 10, 1)
    config.checkpoint_every_steps = max(steps // 10, 1)

    if model == "digits":
        small = configs.digits.get_config()
        config.model = small.model
        config.init_image_size = small.image_size
        config.image_channels = small.image_channels
    if dataset == "place":  # twice the resolution of the pretraining
        config.image_size = (16, 16)
        config.data.examples_per_class = 5
        config.data.in_memory = True
        config.augment = ml_collections.ConfigDict()
        config.eval_crop = 1.0
        config.batch_size = 100  # all there are
        config.lr = 0.1
        config.log_every_steps = 5
    return config
