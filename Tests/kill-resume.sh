#!/usr/bin/env bash
# Kills training runs, resumes them each time, and compares their weights with those of a run that was left alone.
#
#     Tests/kill-resume.sh [KILLS]        100 unless said otherwise; CONFIGURATION=debug for that build
#
# The runs save after every step. By turns a kill comes while a run starts, at a random moment of its training, and as
# soon as a checkpoint is being written, which the temporary file beside it tells. Every checkpoint that a kill leaves
# must be readable, and the digests of the weights equal.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-100}
configuration=${CONFIGURATION:-release}

swift build -c "$configuration" --product permafrost
permafrost="$(swift build -c "$configuration" --show-bin-path)/permafrost"
folder="$(mktemp -d)"
training=
finish() {
    if [ -n "$training" ]; then kill -9 "$training" 2>/dev/null || true; fi
    rm -rf "$folder"
}
trap finish EXIT
cd "$folder"

fail() {
    echo "$1" >&2
    cat "$folder/log" >&2
    exit 1
}

digest() {
    sed 's/.*"weights_sha256":"\([0-9a-f]*\)".*/\1/' "$1/result.json"
}

is_running() { kill -0 "$training" 2>/dev/null; }

# Waits until a condition holds or the run is over.
await() { until "$@" || ! is_running; do :; done; }

# A run says on standard error what it will train, before its first step.
has_begun() { [ -s log ]; }
is_saving() { compgen -G 'cut/.checkpoint.safetensors.*' >/dev/null; }

# Whether the run stands still in the middle of a save.
is_caught_saving() {
    is_saving || return 1
    kill -STOP "$training" 2>/dev/null || return 1
    if is_saving; then return 0; fi
    kill -CONT "$training" 2>/dev/null
    return 1
}

pause() { sleep "0.$(printf '%03d' $((RANDOM % $1)))"; }

options=(--epochs 10 --optimizer adamw --seed 5)
"$permafrost" train --out whole "${options[@]}" >/dev/null 2>log || fail "the run to compare with failed"

done_kills=0
torn=0
runs=0
while [ "$done_kills" -lt "$kills" ]; do
    runs=$((runs + 1))
    # A run that got to its end before it could be killed is followed by another.
    rm -rf cut
    while :; do
        : >log
        "$permafrost" train --out cut --resume --checkpoint-every 1 "${options[@]}" >/dev/null 2>log &
        training=$!
        if [ "$done_kills" -lt "$kills" ]; then
            case $((done_kills % 3)) in
                0) await has_begun; pause 200 ;;
                1) await has_begun; pause 100; await is_caught_saving ;;
                2) pause 100 ;;
            esac
            kill -9 "$training" 2>/dev/null || true
        fi
        status=0
        wait "$training" 2>/dev/null || status=$?
        training=
        [ "$status" != 0 ] || break
        [ "$status" = 137 ] || fail "run $runs failed with exit code $status after $done_kills kills"
        done_kills=$((done_kills + 1))
        if is_saving; then torn=$((torn + 1)); fi
        if [ -e cut/checkpoint.safetensors ]; then
            "$permafrost" inspect cut/checkpoint.safetensors >/dev/null 2>log || fail "kill $done_kills left this:"
        fi
    done
    if [ "$(digest cut)" != "$(digest whole)" ]; then
        fail "run $runs ended with other weights after $done_kills kills"
    fi
    if [ "$(find cut -name '.*' -type f)" ]; then fail "run $runs left a temporary file"; fi
done
if [ "$torn" = 0 ] && [ "$kills" -ge 3 ]; then fail "no kill came while a checkpoint was being written"; fi
echo "$done_kills kills, $torn of them in the middle of a save; $runs runs in all went on to their end: no unreadable" \
    "checkpoint, weights $(digest cut) each time"
