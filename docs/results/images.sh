#!/bin/sh
# The runs behind docs/results/histology.md and imagewoof.md. Their pictures lie under data/, as the recipes say.
set -e
python examples/thin_table.py data/lc25000_colon224/tiles.csv data/histology.csv \
  --where split=train --where class=colon_aca --group source_tile --keep 40
limbeck run recipes/histology.yaml --out runs/histology
limbeck run recipes/imagewoof.yaml --out runs/imagewoof

python docs/results/build.py --collect runs
