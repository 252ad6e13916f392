#!/usr/bin/env bash
# What pretraining gives with few labels: CIFAR-10 with 100 labelled images per class, finetuned and probed from a pretrained run and
# from scratch, three seeds each. Finished runs are passed over, so it can be stopped and started again.
#
#   docs/experiments/cifar10_few_labels.sh [RUNS]      (from the repository; RUNS is `runs` if left out)
set -euo pipefail
convmae=${CONVMAE:-target/release/convmae}
runs=${1:-runs}
seeds="0 1 2"

run() { # NAME RECIPE OVERRIDE..
  local name=$1 recipe=$2
  shift 2
  "$convmae" run "$recipe" --out "$runs/$name" --resume "${@/#/--set=}"
}

figure() { sed -n 's/^ *"val.top1": \([0-9.]*\),*$/\1/p' "$runs/$1/summary.json"; }

row() { # TITLE NAME..: mean and deviation of top-1 over the runs.
  local title=$1
  shift
  for name; do figure "$name"; done | awk -v title="$title" '
    { sum += $1; squares += $1 * $1; all = all " " $1 }
    END { mean = sum / NR; printf "| %s | %.2f ± %.2f |%s |\n", title, mean, sqrt((squares - NR * mean * mean) / (NR - 1)), all }'
}

run convmae_cifar10 recipes/pretrain/convmae_cifar10.yaml "train.length=12 epochs" evaluate.pictures=8
for seed in $seeds; do
  from="init_from.run=$runs/convmae_cifar10"
  run "few_labels/finetune_$seed" recipes/finetune/convmae_cifar10.yaml seed="$seed" "$from"
  run "few_labels/scratch_$seed" recipes/finetune/convmae_cifar10.yaml seed="$seed" init_from=null optimizer.layer_decay=null
  run "few_labels/linprobe_$seed" recipes/linprobe/convmae_cifar10.yaml seed="$seed" "$from"
  run "few_labels/random_$seed" recipes/linprobe/convmae_cifar10.yaml seed="$seed" init_from=null
done

echo "| 100 labelled images per class | top-1 of 10,000 test images, mean ± deviation | seeds $seeds |"
echo "| --- | --- | --- |"
names() { for seed in $seeds; do echo "few_labels/$1_$seed"; done; }
row "finetuned from the pretrained run" $(names finetune)
row "the same from scratch" $(names scratch)
row "linear probe of the pretrained run" $(names linprobe)
row "linear probe of random features" $(names random)
