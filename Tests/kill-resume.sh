#!/usr/bin/env bash
# Kills a training run at random moments, resumes it each time, and compares its weights with those of a run that was
# left alone.
#
#     Tests/kill-resume.sh [KILLS]        100 unless said otherwise
#
# Every checkpoint that a kill leaves must be readable, and the digests of the weights equal.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-100}

swift build -c release --product permafrost
permafrost="$(swift build -c release --show-bin-path)/permafrost"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"

digest() {
    sed 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/' "$1/result.json"
}

options=(--epochs 10 --optimizer adamw --seed 5)
"$permafrost" train --out whole "${options[@]}" >/dev/null 2>&1

done_kills=0
runs=0
while [ "$done_kills" -lt "$kills" ]; do
    runs=$((runs + 1))
    # A run that got to its end before it could be killed is followed by another.
    rm -rf cut
    while [ "$done_kills" -lt "$kills" ]; do
        "$permafrost" train --out cut --resume --checkpoint-every 1 "${options[@]}" >/dev/null 2>&1 &
        training=$!
        sleep "0.$((RANDOM % 300 + 100))"
        kill -9 "$training" 2>/dev/null || break
        wait "$training" 2>/dev/null || true
        done_kills=$((done_kills + 1))
        if [ -e cut/checkpoint.safetensors ]; then
            "$permafrost" inspect cut/checkpoint.safetensors >/dev/null
        fi
    done
    "$permafrost" train --out cut --resume --checkpoint-every 1 "${options[@]}" >/dev/null 2>&1
    if [ "$(digest cut)" != "$(digest whole)" ]; then
        echo "run $runs ended with other weights after $done_kills kills" >&2
        exit 1
    fi
done
echo "$done_kills kills in $runs runs: no unreadable checkpoint, weights $(digest cut) each time"
