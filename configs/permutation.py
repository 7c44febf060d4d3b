"""Does a model need to know where a pixel lies? The experiment of the paper's section 3.4.

    python train.py --config=configs/permutation.py:cifar10,mixer,patches --workdir=runs/patches \\
        --config.data.source=folder:PATH
    mlp-mixer plan --config=configs/permutation.py:cifar10,mixer,patches \\
        --topology=v5e:1x1

The argument is DATASET,MODEL,ORDER:

    DATASET  cifar10   small models on CIFAR-10 at 16 x 16 pixels, minutes on a CPU
             imagenet  B/16 and R50x1 with the recipe of configs/imagenet.py
    MODEL    mixer, or bit: a ResNet of like size
    ORDER    original
             patches   shuffled patches, and one permutation of the pixels inside all of them
             pixels    one permutation of all pixels of the image

A permutation is the same for all images, in training and evaluation. The measure is the accuracy of
a linear classifier on the model's features, from 5 images of each class ("5shot"). The paper
pretrains on JFT-300M, which is not public. What came out on CIFAR-10: docs/results/paper.md.
"""

import ml_collections

from configs import common, imagenet
from mlp_mixer.models.permuted import ORDERS

MODELS = {
    "cifar10": {
        "mixer": dict(
            patch_size=(4, 4),
            num_blocks=4,
            hidden_dim=64,
            tokens_mlp_dim=32,
            channels_mlp_dim=256,
        ),
        "bit": dict(stages=(1, 1, 1, 1), width=8, groups=8, stem="3x3"),
    },
    "imagenet": {"mixer": dict(variant="B/16"), "bit": dict(variant="R50x1")},
}
# The size of the patches that are shuffled: those of the Mixer, whatever the model.
PATCH_SIZE = {"cifar10": (4, 4), "imagenet": (16, 16)}


def get_config(argument: str = "cifar10,mixer,original") -> ml_collections.ConfigDict:
    dataset, model, order = [*argument.split(","), "", ""][:3]
    if model not in MODELS.get(dataset, {}) or order not in ("original", *ORDERS):
        raise ValueError(
            f"configs/permutation.py:{argument}: write DATASET,MODEL,ORDER with DATASET cifar10 or "
            f"imagenet, MODEL mixer or bit, ORDER original or {' or '.join(ORDERS)}"
        )
    config = _cifar10() if dataset == "cifar10" else _imagenet()
    config.architecture = model
    config.model = ml_collections.ConfigDict(MODELS[dataset][model])
    config.permuted.order, config.permuted.patch_size = order, PATCH_SIZE[dataset]
    return config


def _cifar10() -> ml_collections.ConfigDict:
    config = common.base()
    config.data.source = "folder:cifar10"
    config.data.in_memory = True
    config.image_size = (16, 16)  # half of what the images have: a quarter of the time
    config.augment.pad_crop = 2  # pixels
    config.augment.flip = True
    config.batch_size = 128
    config.total_epochs = 2.0
    config.lr = 0.003
    config.warmup_epochs = 0.1
    config.weight_decay = 0.1
    config.evals.test = common.classification("test[:5000]")
    config.evals.fewshot = common.fewshot("train", "test[:5000]")
    config.eval_every_epochs = 0.4
    config.log_every_steps = 39
    config.checkpoint_every_epochs = 1.0
    return config


def _imagenet() -> ml_collections.ConfigDict:
    config = imagenet.get_config("B/16")
    # As on JFT-300M: a crop and a flip, no regularisation that only one of the models can have.
    config.augment.randaugment_layers = 0
    config.augment.randaugment_magnitude = 0.0
    config.mixup = 0.0
    config.total_epochs = 60.0
    config.evals.fewshot = common.fewshot("train[:65000]", "validation")
    del config.evals["real"], config.evals["v2"]
    return config
