#!/usr/bin/env bash
# Holds the operations other than convolution and matrix product to the same bits on different instruction sets, those
# of AArch64 under QEMU's user-mode emulation: all sets with fused multiply-add agree, and so do all without.
#
#   Tests/check-operations.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# The compiler of the Swift toolchain in use: the one that SwiftPM builds the kernels with.
if [ -z "${CC:-}" ]; then
  swift=$(command -v swift || true)
  CC=$([ -n "$swift" ] && dirname "$(readlink -f "$swift")" || true)/clang
  [ -x "$CC" ] || CC=$(command -v clang || true)
fi
[ -n "$CC" ] || { echo "check-operations: no clang found: put a Swift toolchain on PATH or set CC" >&2; exit 2; }
missing=()
command -v qemu-aarch64-static > /dev/null || missing+=(qemu-user-static)
[ -e /usr/aarch64-linux-gnu/lib/libc.so ] || missing+=(gcc-aarch64-linux-gnu)
if [ ${#missing[@]} -gt 0 ]; then
  echo "check-operations: emulating AArch64 needs: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 2
fi

build=.build/check-operations
rm -rf "$build"
mkdir -p "$build/native" "$build/emulated"
compile() {
  local folder=$1
  shift
  find CKernels Tests/Fingerprints -name '*.c' | while read -r source; do
    echo "-c $source -o $folder/${source//\//_}.o"
  done | xargs -P "$(nproc)" -L 1 "$CC" -std=gnu17 -O3 -fno-math-errno -Wall -Wextra -ICKernels -ICKernels/include "$@"
}
aarch64=(--target=aarch64-linux-gnu --gcc-toolchain=/usr -isystem /usr/aarch64-linux-gnu/include)
compile "$build/native"
compile "$build/emulated" "${aarch64[@]}"
"$CC" "$build"/native/*.o -fuse-ld=lld -lm -lpthread -o "$build/native/fingerprints"
"$CC" "${aarch64[@]}" "$build"/emulated/*.o -static -fuse-ld=lld -lm -lpthread -o "$build/emulated/fingerprints"

# Each group's first set that the machine has is what the others are compared with.
failed=0
for group in "native:avx512 native:avx2 native:neon emulated:neon" "native:baseline emulated:baseline"; do
  first=
  for run in $group; do
    side=${run%:*} isa=${run#*:}
    runner=()
    [ "$side" = native ] || runner=(qemu-aarch64-static)
    status=0
    "${runner[@]}" "$build/$side/fingerprints" "$isa" > "$build/$side-$isa.txt" || status=$?
    [ "$status" != 3 ] || continue
    [ "$status" = 0 ] || { echo "check-operations: $side $isa ended with status $status" >&2; exit 1; }
    if [ -z "$first" ]; then
      first=$side-$isa
      echo "$side $isa: $(wc -l < "$build/$first.txt") results"
    elif diff "$build/$first.txt" "$build/$side-$isa.txt"; then
      echo "$side $isa: the same"
    else
      echo "$side $isa differs from $first: above" >&2
      failed=1
    fi
  done
done
exit $failed
