package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// user is who the server runs as.
type user struct {
	name     string
	uid, gid uint32
	other    bool // not the user that this process runs as
}

const dirPattern = "notifyql-pg-*"

// roots are the folders for temporary files that u can use.
func (u user) roots() []string {
	var roots []string
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if (len(roots) == 0 || roots[0] != dir) && u.reaches(dir) {
			roots = append(roots, dir)
		}
	}
	return roots
}

// memory is where Linux has files that are on no disk.
const memory = "/dev/shm"

// tempDir makes a folder that only u can enter, if asked for in memory where there is room.
func (u user) tempDir(inMemory bool) (string, error) {
	err := errors.New("no folder for temporary files that " + u.name + " can use")
	roots := u.roots()
	if inMemory && roomInMemory() && u.reaches(memory) {
		roots = append([]string{memory}, roots...)
	}
	for _, root := range roots {
		var dir string
		if dir, err = os.MkdirTemp(root, dirPattern); err != nil {
			continue
		}
		if len(dir) > 80 { // a Unix socket's path has at most 103 bytes on macOS, 107 on Linux
			os.Remove(dir)
			err = fmt.Errorf("%s is too long for a socket's path: set TMPDIR to a shorter one", dir)
			continue
		}
		return dir, u.own(dir)
	}
	return "", err
}

// own gives path, and what is below it, to u.
func (u user) own(path string) error {
	if !u.other {
		return nil
	}
	return filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(u.uid), int(u.gid))
	})
}

// reaches says whether u can enter dir, as far as the bits for others tell.
func (u user) reaches(dir string) bool {
	if !u.other {
		_, err := os.Stat(dir)
		return err == nil
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
