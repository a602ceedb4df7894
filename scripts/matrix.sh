#!/bin/sh
# Runs the tests of every package that uses Postgres, on each version: those given, or 13 to 18. Ends with a line for
# each version; fails if one failed.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 13 14 15 16 17 18

packages=$(go list -f '{{range .TestImports}}{{if eq . "github.com/notifyql/notifyql/internal/localpg/pgtest"}}{{$.ImportPath}}{{end}}{{end}} {{range .XTestImports}}{{if eq . "github.com/notifyql/notifyql/internal/localpg/pgtest"}}{{$.ImportPath}}{{end}}{{end}}' $(go list -m -f '{{.Dir}}/...') | xargs -n 1 | sort -u)
results=
failed=
for major; do
	echo "=== Postgres $major"
	# shellcheck disable=SC2086 # the packages are words
	if NOTIFYQL_TEST_POSTGRES=$major go test -timeout 15m $packages; then
		result=passed
	else
		result=FAILED
		failed=yes
	fi
	results="$results
Postgres $major: $result"
done
echo "$results"
[ -z "$failed" ]
