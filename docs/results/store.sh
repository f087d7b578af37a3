#!/bin/sh
# The runs behind docs/results/store.md. MNIST's four files lie under data/MNIST/raw, CIFAR-10 in data/cifar10.npz, see
# cifar10.sh. Of each data set one teacher, then the same student and control with the live teacher and with 1, 4 and 16
# stored views: `store.sh mnist online`, `store.sh cifar10 16`, …; without arguments all, one after the other.
set -e

teacher() {
  test -f "runs/store-$1-teacher/summary.json" || limbeck run "recipes/$1.yaml" --set name="$1-teacher" \
    --set student.epochs=1 --set student.schedule.warmup=0 --set seeds=1 --set controls.control=false \
    --set 'export=[]' --out "runs/store-$1-teacher"
}

variant() {
  given="--set export=[] --set teacher.weights=runs/store-$1-teacher/models/teacher/seed0/selected.safetensors"
  case $1 in
    mnist) given="$given --set student.options.hidden=[128] --set student.views.shift=2" ;;
    cifar10) given="$given --set student.epochs=20" ;;
  esac
  case $2 in
    online) ;;
    *) given="$given --set teacher.store.path=auto --set teacher.store.views=$2" ;;
  esac
  # shellcheck disable=SC2086
  limbeck run "recipes/$1.yaml" --set name="$1-$2" $given --out "runs/store-$1-$2"
  git rev-parse --short HEAD > "runs/store-$1-$2/commit"
}

if test $# -eq 0; then
  for data in mnist cifar10; do
    teacher $data
    for views in online 1 4 16; do variant $data $views; done
  done
  python docs/results/build.py --collect runs
elif test "$2" = teacher; then teacher "$1"
else variant "$1" "$2"
fi
