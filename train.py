"""python train.py ... is mlp-mixer train ...: --config=configs/digits.py --workdir=runs/digits"""

import sys

from mlp_mixer.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
