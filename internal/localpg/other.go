//go:build !unix

package localpg

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// runAs ends every Start: what follows it is for systems with users, sessions and signals as Unix has them.
func runAs() (user, error) {
	return user{}, errors.New("a private Postgres runs on Linux and macOS only; on Windows, inside WSL")
}

func (user) process() *syscall.SysProcAttr { return nil }

func lock(*os.File) bool { return false }

func ownedBy(fs.FileInfo, user) bool { return false }
