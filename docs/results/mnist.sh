#!/bin/sh
# The runs behind docs/results/mnist.md. MNIST's four files lie under data/MNIST/raw, or set data.download=true.
set -e
grid="objective.kl.temperature=1,2,4,8,16,32,64"
small='student.options.hidden=[128]'
limbeck sweep recipes/mnist.yaml $grid --set name=mnist-small --set "$small" --out runs/mnist-small-sweep
# The teacher is the same: its trained stage is taken over.
mkdir -p runs/mnist-sweep/shared && cp -r runs/mnist-small-sweep/shared/models-teacher* runs/mnist-sweep/shared/
limbeck sweep recipes/mnist.yaml $grid --out runs/mnist-sweep
limbeck run recipes/mnist.yaml --set name=mnist-plain-small --set teacher.views.shift=0 --set "$small" --out runs/mnist-plain-small
teacher=runs/mnist-plain-small/models/teacher/seed0/selected.safetensors
limbeck run recipes/mnist.yaml --set name=mnist-plain --set teacher.views.shift=0 --set teacher.weights=$teacher --out runs/mnist-plain
python docs/results/build.py --collect runs
