#!/usr/bin/env bash
# Runs the kernels' checks (problem generator, reference, checker, random arguments) as a plain C program.
#
#   Tests/check-kernels.sh [--neon | --sanitize] [convolutions|products|arguments] [--problems N] [--seed S] ...
#
#   --neon      for AArch64, on one thread, under QEMU's user-mode emulation
#   --sanitize  with AddressSanitizer and UndefinedBehaviorSanitizer
#
# The other options are the program's; a failure prints those that repeat it.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=native
case "${1:-}" in
  --neon | --sanitize) mode=${1#--}; shift ;;
esac

# The compiler of the Swift toolchain in use: the one that SwiftPM builds the kernels with.
if [ -z "${CC:-}" ]; then
  swift=$(command -v swift || true)
  CC=$([ -n "$swift" ] && dirname "$(readlink -f "$swift")" || true)/clang
  [ -x "$CC" ] || CC=$(command -v clang || true)
fi
[ -n "$CC" ] || { echo "check-kernels: no clang found: put a Swift toolchain on PATH or set CC" >&2; exit 2; }

flags=(-std=gnu17 -O3 -fno-math-errno -Wall -Wextra -g)
libraries=(-fuse-ld=lld -lm -lpthread)
runner=()
if [ "$mode" = neon ]; then
  missing=()
  command -v qemu-aarch64-static > /dev/null || missing+=(qemu-user-static)
  [ -e /usr/aarch64-linux-gnu/lib/libc.so ] || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "check-kernels: emulating AArch64 needs: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
  fi
  flags+=(--target=aarch64-linux-gnu --gcc-toolchain=/usr -isystem /usr/aarch64-linux-gnu/include)
  libraries+=(-static)
  runner=(qemu-aarch64-static)
elif [ "$mode" = sanitize ]; then
  # Instrumented loops may not vectorise as their pragmas ask.
  flags+=(-fsanitize=address,undefined -fno-sanitize-recover=undefined -Wno-pass-failed)
fi
# OpenMP as the package's manifest has it, where Debian puts it.
if [ "$mode" != neon ] && [ "${PERMAFROST_OPENMP:-1}" != 0 ] && [ -e "/usr/lib/$(uname -m)-linux-gnu/libomp5.so" ]; then
  flags+=(-Xclang -fopenmp -DPF_OPENMP)
  libraries+=(-lomp5)
fi

build=.build/check-kernels-$mode
rm -rf "$build"
mkdir -p "$build"
export CC build compile="${flags[*]} -ICKernels -ICKernels/include -ITests/Reference/include"
find CKernels Tests/Reference Tests/Standalone -name '*.c' |
  xargs -P "$(nproc)" -I{} bash -c 'source={}; $CC $compile -c "$source" -o "$build/${source//\//_}.o"'
"$CC" "${flags[@]}" "$build"/*.o "${libraries[@]}" -o "$build/check-kernels"
exec "${runner[@]}" "$build/check-kernels" "$@"
