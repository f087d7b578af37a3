#!/bin/sh
# The runs behind docs/results/cifar10.md. FOLDER holds CIFAR-10 as strips; examples/strips_to_npz.py says how.
set -e
test -f data/cifar10.npz || python examples/strips_to_npz.py "${1:?a folder of strips}" data/cifar10.npz
limbeck sweep recipes/cifar10.yaml objective.kl.temperature=2,4,8 --point-seeds 1 --out runs/cifar10-sweep

python docs/results/build.py --collect runs
