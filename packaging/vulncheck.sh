#!/bin/sh
# Runs govulncheck. Where its database cannot be reached, as on a machine without the internet, says so and goes on: the
# check then has no answer, which is no failure of the code.
set -u
out=$("$1" ./... 2>&1) && { echo "govulncheck: no known vulnerability is called"; exit 0; }
case $out in
*"fetching vulnerabilities"*) echo "govulncheck: NOT CHECKED, its database cannot be reached from here" >&2; exit 0 ;;
esac
printf '%s\n' "$out" >&2
exit 1
