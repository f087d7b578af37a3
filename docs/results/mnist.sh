#!/bin/sh
# The runs behind docs/results/mnist.md. MNIST's four files lie under data/MNIST/raw, or set data.download=true.
set -e
grid="objective.kl.temperature=1,2,4,8,16,32,64"
small='student.options.hidden=[128]'
limbeck sweep recipes/mnist.yaml $grid --set name=mnist-small --set "$small" --out runs/mnist-small-sweep

# The notebook's student. The teacher is the same, so its trained stage is taken over.
mkdir -p runs/mnist-sweep/shared
cp -r runs/mnist-small-sweep/shared/models-teacher* runs/mnist-small-sweep/shared/evaluation-teacher* runs/mnist-sweep/shared/
limbeck sweep recipes/mnist.yaml $grid --set seeds=1 --out runs/mnist-sweep
best=$(python -c "import json; print(json.load(open('runs/mnist-sweep/sweep.json'))['best']['values']['objective.kl.temperature'])")
shifted=runs/mnist-small-sweep/best/models/teacher/seed0/selected.safetensors
limbeck run recipes/mnist.yaml --set teacher.weights=$shifted --set objective.kl.temperature=$best --out runs/mnist

# The teacher that saw its images as they are.
limbeck run recipes/mnist.yaml --set name=mnist-plain-small --set teacher.views.shift=0 --set "$small" --out runs/mnist-plain-small
plain=runs/mnist-plain-small/models/teacher/seed0/selected.safetensors
limbeck run recipes/mnist.yaml --set name=mnist-plain --set teacher.weights=$plain --set teacher.views.shift=0 --out runs/mnist-plain

python docs/results/build.py --collect runs
