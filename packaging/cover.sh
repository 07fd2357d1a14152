#!/bin/sh
# Prints the statement coverage of each package, generated code and test servers left out, and fails below the project's
# marks: 95 % in dsp, protocol, agent/spool and collector/ingest, 85 % over all. Programs started by the end-to-end tests
# count too: they are built with coverage and write into HEIMDALL_COVER_DIR. A failing test fails this too.
set -eu
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir "$out/programs"
HEIMDALL_COVER_DIR="$out/programs" go test -timeout 20m -coverpkg=./... -coverprofile="$out/tests" ./... >"$out/log" 2>&1 || {
  cat "$out/log" >&2
  exit 1
}
grep -v 'no test files' "$out/log" >&2
{
  cat "$out/tests"
  if [ -n "$(ls "$out/programs")" ]; then
    go tool covdata textfmt -i="$out/programs" -o="$out/programs.txt"
    tail -n +2 "$out/programs.txt"
  fi
} | awk '
  NR == 1 || /\.pb\.go:/ || /\/packaging\// { next }
  { split($1, where, ":"); n = split(where[1], part, "/"); pkg = where[1]; sub("/" part[n] "$", "", pkg)
    size[$1] = $2; package[$1] = pkg; if ($3 > 0) hit[$1] = 1 }
  END {
    for (b in size) { all[package[b]] += size[b]; total += size[b]; if (b in hit) { got[package[b]] += size[b]; covered += size[b] } }
    status = 0
    for (p in all) {
      mark = (p ~ /heimdall\/(dsp|protocol|agent\/spool|collector\/ingest)$/) ? 95 : 0
      share = 100 * got[p] / all[p]
      printf "%6.1f %%  %s%s\n", share, p, (share < mark) ? "  BELOW " mark " %" : "" | "sort -k3"
      if (share < mark) status = 1
    }
    close("sort -k3")
    printf "%6.1f %%  total\n", 100 * covered / total
    if (100 * covered / total < 85) { print "the total is below 85 %"; status = 1 }
    exit status
  }'
