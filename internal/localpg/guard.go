package localpg

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed guard.sh
var guardScript string

// guard cleans up after an owner that could not.
type guard struct {
	cmd  *exec.Cmd
	pipe io.Closer // its end, by release or by the owner's death, sets the guard to work
	held *os.File  // locked as long as the owner lives, to tell a later Start that the folder is in use
}

func startGuard(dir string, owner user) (*guard, error) {
	held, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if !lock(held) {
		held.Close()
		return nil, fmt.Errorf("%s can't be locked", held.Name())
	}
	cmd := cleaner(context.Background(), dir, owner)
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		held.Close()
		return nil, err
	}
	return &guard{cmd: cmd, pipe: pipe, held: held}, nil
}

// release lets the guard do its work, usually none, and waits for it.
func (g *guard) release() error {
	g.pipe.Close()
	err := g.cmd.Wait()
	g.held.Close()
	return err
}

// cleaner is the guard's shell. It stays out of the folder that it removes.
func cleaner(ctx context.Context, dir string, owner user) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", guardScript, "guard", dir)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = owner.process()
	return cmd
}

// unclaimed is the age up to which a folder without its lock may still be in the making.
const unclaimed = time.Minute

// sweep removes the folders of owners that died together with their guards, and ends the servers in them.
func sweep(ctx context.Context, owner user) {
	for _, root := range append(owner.roots(), memory) {
		dirs, _ := filepath.Glob(filepath.Join(root, dirPattern)) // the pattern is well-formed
		for _, dir := range dirs {
			info, err := os.Lstat(dir)
			if err != nil || !info.IsDir() || time.Since(info.ModTime()) < unclaimed {
				continue
			}
			if ownedBy(info, owner) && !inUse(filepath.Join(dir, "lock")) {
				cleaner(ctx, dir, owner).Run() // what stays is tried again at the next start
			}
		}
	}
}

// inUse says whether the owner of a folder lives.
func inUse(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return !os.IsNotExist(err)
	}
	defer f.Close()
	return !lock(f)
}
