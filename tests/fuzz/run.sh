#!/bin/sh
# Run a fuzzer for FUZZ_SECONDS (60): run.sh PROGRAM NAME.  Its corpus starts from
# tests/fuzz/corpus/NAME (inputs that once failed stay there for ever) and grows in the build folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work="$1.work"
mkdir -p "$work"
seeds=
[ ! -d "$here/corpus/$2" ] || seeds="$here/corpus/$2"
seed=${SEED:-$(date +%s)}
echo "fuzz: $2 seed=$seed (repeat with SEED=$seed)"
# A crash ends libFuzzer with 77, which test runners take for "skipped": any failure becomes 1.
# shellcheck disable=SC2086
"$1" -max_total_time="${FUZZ_SECONDS:-60}" -seed="$seed" -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$work/fail-" "$work" $seeds || exit 1
