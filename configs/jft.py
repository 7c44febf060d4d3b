"""The paper's recipe for JFT-300M, for those who have data of that size (Table 4, last rows).

    python train.py --config=configs/jft.py:H/14 --workdir=runs/jft_h14 \\
        --config.data.source=folder:PATH
    mlp-mixer plan --config=configs/jft.py:H/14 --topology=v5e:16x16

JFT-300M (300 million images, 18,000 classes) is not public; give a source of your own as folder: or
tfds:. The argument is a variant. Nothing but an Inception crop and a flip: with this much data the
paper needs no more regularisation. L/16 was trained for 7 epochs and for 14
(--config.total_epochs=14).

Expected after fine-tuning on ImageNet at 224 pixels, by the paper's Table 3:
    S/32 68.70 %, S/16 73.83 %, B/32 75.53 %, B/16 80.00 %, L/32 80.67 %,
    L/16 84.05 % (7 epochs), 84.82 % (14 epochs), H/14 86.32 %; 10 to 1,010 TPU v3 core-days

The loss is not in the paper; sigmoid is the authors' in the configs that they have published.
"""

import ml_collections

from configs import imagenet21k

# Table 4: epochs and learning rate, by the size of the model.
SCHEDULE = {"S": (5.0, 0.003), "B": (7.0, 0.003), "L": (7.0, 0.001), "H": (14.0, 0.001)}


def get_config(variant: str = "L/16") -> ml_collections.ConfigDict:
    config = imagenet21k.get_config(variant)  # its data is handled alike
    config.data.source = "folder:jft"
    config.augment.randaugment_layers = 0
    config.augment.randaugment_magnitude = 0.0
    config.mixup = 0.0
    config.model.stoch_depth = 0.0
    config.total_epochs, config.lr = SCHEDULE[variant[0]]
    config.weight_decay = 0.03
    if variant[0] == "H":  # the optimizer, too, is then split: docs/lab/tpu_compiler.md
        config.layout = "fsdp"
    return config
