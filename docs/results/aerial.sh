#!/bin/sh
# The runs behind docs/results/aerial.md: `aerial.sh image`, `quarter`, `patch`, `tile`; without arguments all, one after
# the other. The Dubai tiles (MBRSC), Tile 1 to Tile 6, lie under data/dubai_aerial. `quarter` takes the teacher of `image`.
set -e

kept() {
  git rev-parse --short HEAD > "runs/$1/commit"
}

one() {
  case $1 in
    image) limbeck run recipes/aerial.yaml --out runs/aerial-image; kept aerial-image ;;
    quarter)
      limbeck run recipes/aerial.yaml --set name=aerial-quarter --set student.options.width=4 \
        --set teacher.weights=runs/aerial-image/models/teacher/seed0/selected.safetensors --out runs/aerial-quarter
      kept aerial-quarter ;;
    patch)
      limbeck run recipes/aerial.yaml --set name=aerial-patch --set data.split_by=patch --set data.held_out=null \
        --set seeds=1 --set teacher.epochs=100 --out runs/aerial-patch
      kept aerial-patch ;;
    tile)
      limbeck run recipes/aerial.yaml --set name=aerial-tile --set data.split_by=group \
        --set 'data.held_out={validation: ["Tile 2"], test: ["Tile 3"]}' --set seeds=1 --out runs/aerial-tile
      kept aerial-tile ;;
  esac
}

if test $# -eq 0; then
  for part in image quarter patch tile; do one $part; done
  python docs/results/build.py --collect runs
else one "$1"
fi
