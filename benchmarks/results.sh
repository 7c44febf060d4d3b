#!/bin/bash
# The runs, figures and numbers of docs/results/paper.md:
#   bash benchmarks/results.sh CIFAR10_FOLDER RUNS_FOLDER
# The folder has train/ and test/, in each a folder for each class. A run that is complete is not
# run again. Between one and two hours on two CPU cores.
set -euo pipefail
cifar10=$1 runs=$2 images=docs/images

train() { # NAME CONFIG [FLAG...]
    python train.py --config="configs/$2" --workdir="$runs/$1" \
        --config.data.source="folder:$cifar10" "${@:3}"
}

for model in mixer bit; do
    for order in original patches pixels; do
        train "${model}_$order" "permutation.py:cifar10,$model,$order"
    done
done
for part in plain mixup randaugment stoch_depth all; do
    train "$part" "regularisation.py:$part"
done

python -m mlp_mixer tradeoff --out=$images/tradeoff.png --numbers=$images/tradeoff.csv
python -m mlp_mixer tradeoff "$runs"/{mixer,bit}_{original,patches,pixels} --flops \
    --out="$runs/tradeoff.png" --numbers=$images/tradeoff_runs.csv
python -m mlp_mixer permutation "$runs"/{mixer,bit}_{original,patches,pixels} \
    --out=$images/permutation.png --numbers=$images/permutation.csv
python -m mlp_mixer curves "$runs"/{plain,mixup,randaugment,stoch_depth,all} \
    --scalars loss accuracy 5shot \
    --out=$images/regularisation.png --numbers=$images/regularisation.csv
python -m mlp_mixer filters --checkpoint="$runs/mixer_original" --stem --blocks 0 1 2 \
    --out=$images/filters.png --numbers=$images/filters.csv
