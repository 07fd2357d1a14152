#!/bin/sh
# Runs every fuzz target, one after the other, and says how many executions there were in all. FUZZTIME=10s is how long
# each runs. FUZZCOUNT=400000x is how many executions each makes instead; those that open files, sockets or whole programs
# make a hundredth. FUZZ=regexp selects targets, FUZZPARALLEL=1 is how many workers each has.
set -eu
go=${GO:-go}
slow='^(FuzzBroker|FuzzOpenFile|FuzzAssemble|FuzzReceive|FuzzOpen_Recordings|FuzzCapture|FuzzAnalyzer)$'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
total=0 targets=0 failed=
for package in $($go list ./...); do
  for target in $($go test -list '^Fuzz' "$package" | grep '^Fuzz' | grep -E "${FUZZ:-.}" || true); do
    amount=${FUZZTIME:-10s}
    if [ -n "${FUZZCOUNT:-}" ]; then
      count=${FUZZCOUNT%x}
      if echo "$target" | grep -qE "$slow"; then count=$((count / 100 + 1)); fi
      amount=${count}x
    fi
    if ! $go test -run '^$' -fuzz "^$target\$" -fuzztime "$amount" -fuzzminimizetime 50x ${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} "$package" >"$log" 2>&1; then
      failed="$failed $target"
      cat "$log"
    fi
    execs=$(grep -o 'execs: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    total=$((total + ${execs:-0})) targets=$((targets + 1))
    echo "${execs:-0} $target $package"
  done
done
echo "$total executions of $targets targets${failed:+; findings in$failed}"
[ -z "$failed" ]
