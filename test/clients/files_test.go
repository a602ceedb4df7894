//go:build codegen

package clients

import (
	"io/fs"
	"slices"
)

// noModules is a folder without its node_modules.
type noModules struct{ fs.FS }

func (f noModules) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "node_modules" }), err
}
