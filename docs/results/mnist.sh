#!/bin/sh
# The runs behind docs/results/mnist.md. MNIST's four files lie under data/MNIST/raw, or set data.download=true.
set -e
grid="objective.kl.temperature=1,2,4,8,16,32,64"
small='student.options.hidden=[128]'
limbeck sweep recipes/mnist.yaml $grid --set name=mnist-small --set "$small" --out runs/mnist-small-sweep

# The notebook's student, with the same teacher.
shifted=runs/mnist-small-sweep/best/models/teacher/seed0/selected.safetensors
limbeck sweep recipes/mnist.yaml $grid --point-seeds 1 --set teacher.weights=$shifted --out runs/mnist-sweep

# The teacher that saw its images as they are.
limbeck run recipes/mnist.yaml --set name=mnist-plain-small --set teacher.views.shift=0 --set "$small" --out runs/mnist-plain-small
plain=runs/mnist-plain-small/models/teacher/seed0/selected.safetensors
limbeck run recipes/mnist.yaml --set name=mnist-plain --set teacher.weights=$plain --set teacher.views.shift=0 --out runs/mnist-plain

python docs/results/build.py --collect runs
