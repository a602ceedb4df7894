#!/bin/sh
# Runs every fuzz test for the given time, 30s unless one is given; stops at the first that finds something.
set -eu

cd "$(dirname "$0")/.."
for package in $(go list $(go list -m -f '{{.Dir}}/...')); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "=== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" -fuzzminimizetime 1s "$package"
	done
done
