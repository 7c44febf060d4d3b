"""Distillation on ImageNet by a patient teacher (arXiv 2106.05237): its answers in place of labels.

    python train.py --config=configs/distill.py:S/16 --workdir=runs/distill_s16
    python train.py --config=configs/distill.py:S/16,gsam/Mixer-B_16 --workdir=runs/distill_s16
    mlp-mixer plan --config=configs/distill.py:S/16 --topology=v5e:4x8

The argument is VARIANT or VARIANT,TEACHER: a Mixer, and any classifier of ImageNet's classes at 224
pixels, as mlp_mixer.load takes it. Without one it is the best Mixer that is published for them:
Alibaba MIIL's B/16, pretrained on ImageNet-21k-P, 82.3 %, from the hub (pip install ".[hub]").
Data: as for configs/imagenet.py.

Published by the authors (big_vision, proj/distill), top-1: BiT-R50x1 82.8 % from a BiT-R152x2 of
83.0 %. No numbers of a Mixer were found, and no machine here could train one.

Where the numbers come from, and how sure they are:

* Loss at temperature 1, mixup with p = 1, crop and flip and nothing else, Adam, cosine, clipping at
  1, batch 4096, 5,000 steps of warm-up, train[:98%], 1,200 epochs ("a good middle ground"): the
  authors' config for ImageNet. Certain.
* Rate and weight decay: those of Mixers that learn labels, in Table 4 of the Mixer's paper. The
  authors' are for a BiT: a rate of 0.03, and a decay of 0.0003 in big_vision's unit, in which Table
  4's is 0.0001. Uncertain.
* No stochastic depth: BiT has none. Uncertain, too.
"""

import ml_collections

from configs import imagenet

TEACHER = "hf://timm/mixer_b16_224.miil_in21k_ft_in1k"


def get_config(argument: str = "S/16") -> ml_collections.ConfigDict:
    variant, _, teacher = argument.partition(",")
    config = imagenet.get_config(variant)
    config.teacher = teacher or TEACHER

    config.data.train_split = "train[:98%]"
    config.augment.randaugment_layers = 0
    config.augment.randaugment_magnitude = 0.0
    config.mixup = 1.0
    config.model.stoch_depth = 0.0

    config.loss = "softmax"
    config.total_epochs = 1200.0
    config.decay = "cosine"
    config.decay_end = 0.0
    config.warmup_steps = 5000
    return config
