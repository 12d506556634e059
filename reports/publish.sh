#!/usr/bin/env bash
# Pages of finished ablations for readers: `bash reports/publish.sh figure4 span` makes reports/embedded/NAME out of reports/NAME.
# Kept: the report, runs.csv, and the pages of notebooks that answer a question. Left out: records, weights, each tuning run's page.
set -euo pipefail
cd "$(dirname "$0")/.."
for name; do
    target=reports/embedded/$name
    rm -rf "$target"
    mkdir -p "$target"
    cp -r "reports/$name/ablation.json" "reports/$name/runs" "$target/"
    find "$target" -name tuned -prune -exec rm -r {} +
    find "$target" -name notebook.ipynb -delete
    shown=$([ "$name" = gallery ] && echo 1 || echo 0) # the gallery has one page of every notebook
    for kind in tuning generation; do
        find "$target/runs" -path "*/$kind-*" -name notebook.html | sort | tail -n +$((shown + 1)) | xargs -r rm
    done
    .venv/bin/python -m filtersub report "$target"
    find "$target" -type f ! -name index.html ! -name runs.csv ! -name notebook.html -delete
    find "$target" \( -name runs.csv -size -2c \) -delete # there were no tuning runs
    find "$target" -type d -empty -delete
done
