package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// install is one set of Postgres binaries.
type install struct {
	bin     string // the folder that holds postgres and initdb
	version string // "15.18"
}

func (i install) major() string {
	major, _, _ := strings.Cut(i.version, ".")
	return major
}

// oldest is the oldest version that we work with.
const oldest = 13

// ErrNotInstalled says that no fitting Postgres is on this machine.
var ErrNotInstalled = errors.New("no Postgres on this machine")

// find returns the binaries of the asked major version, or else the newest. Those of the system go before those that
// scripts/setup.sh put into the repository's .cache, because more programs come with them.
func find(ctx context.Context, major string) (install, error) {
	for _, dirs := range [][]string{systemDirs(), cacheDirs()} {
		if i, ok := newest(ctx, dirs, major); ok {
			return i, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return install{}, err
	}
	if major != "" {
		return install{}, fmt.Errorf("%w of version %s: get it with scripts/setup.sh postgres-%s", ErrNotInstalled, major, major)
	}
	return install{}, fmt.Errorf("%w: install it (Debian: apt-get install postgresql), or run scripts/setup.sh demo", ErrNotInstalled)
}

// newest is the newest Postgres in dirs, of the major version if one is given.
func newest(ctx context.Context, dirs []string, major string) (install, bool) {
	var found []install
	for _, bin := range dirs {
		if i, ok := inspect(ctx, bin); ok && (major == "" || i.major() == major) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return install{}, false
	}
	return slices.MaxFunc(found, func(a, b install) int { return a.number() - b.number() }), true
}

func (i install) number() int {
	n, _ := strconv.Atoi(i.major())
	return n
}

// systemDirs are the places where packages of the usual systems put the server's binaries.
func systemDirs() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu, Arch's older versions
		"/usr/lib/postgresql*/bin",           // openSUSE
		"/usr/libexec/postgresql*",           // Alpine
		"/usr/pgsql-*/bin",                   // Red Hat, from postgresql.org
		"/usr/local/pgsql/bin",               // from source
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return dirs
}

// cacheDirs are the binaries in .cache beside the go.mod above the working directory and, where that is of one module among several,
// beside the go.work above that.
func cacheDirs() (dirs []string) {
	dir, err := os.Getwd()
	if err != nil {
		return nil
	}
	has := func(file string) bool {
		_, err := os.Stat(filepath.Join(dir, file))
		return err == nil
	}
	for module := false; ; {
		work := has("go.work")
		if !module && has("go.mod") || module && work {
			found, _ := filepath.Glob(filepath.Join(dir, ".cache", "postgres-*", "bin"))
			dirs, module = append(dirs, found...), true
		}
		parent := filepath.Dir(dir)
		if work || parent == dir {
			return dirs
		}
		dir = parent
	}
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+(?:\.\d+)?)`)

// inspect asks the binaries in bin for their version.
func inspect(ctx context.Context, bin string) (install, bool) {
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return install{}, false
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return install{}, false
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return install{}, false
	}
	i := install{bin: bin, version: string(match[1])}
	return i, i.number() >= oldest
}

// utf8Ctype is the character type that knows all letters and that every machine of the kind has.
var utf8Ctype = map[string]string{"linux": "C.UTF-8", "darwin": "UTF-8"}[runtime.GOOS]
