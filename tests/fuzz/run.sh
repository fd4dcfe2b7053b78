#!/bin/sh
# Runs libFuzzer over each target, one after another: `run.sh RUNS [TARGET…]`. `make fuzz` calls it.
#
# FUZZ_SECONDS bounds the time of a target; the corpus is kept under BERTH_CACHE and grows from run to run.
set -eu

runs="$1"
shift
here=$(cd "$(dirname "$0")" && pwd)
target_dir="${CARGO_TARGET_DIR:-$here/../../target}"
corpus="${BERTH_CACHE:-$HOME/.cache/berth}/fuzz"

# What cargo-fuzz sets, but for the sanitizer: there is no unsafe code in what is run. It works with the stable compiler.
flags='-Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4'
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --locked --release --quiet --manifest-path "$here/../../Cargo.toml" --package fuzz --target-dir "$target_dir"
RUSTFLAGS="$flags" cargo build --locked --release --quiet --manifest-path "$here/libfuzzer/Cargo.toml" \
    --target "$host" --target-dir "$target_dir/fuzz"
tool="$target_dir/release/berth-fuzz"

[ $# -gt 0 ] || set -- $("$tool" list)
for name in "$@"; do
    mkdir -p "$corpus/$name/corpus" "$corpus/$name/finds"
    "$tool" seeds "$name" "$corpus/$name/seeds"
    echo "fuzz: $name"
    BERTH_FUZZ_TARGET="$name" "$target_dir/fuzz/$host/release/fuzz-libfuzzer" -runs="$runs" -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -max_total_time="${FUZZ_SECONDS:-0}" -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$corpus/$name/finds/" "$corpus/$name/corpus" "$corpus/$name/seeds"
done
