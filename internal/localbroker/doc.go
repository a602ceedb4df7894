// Package localbroker runs a private, throwaway message broker from a program on this machine, for tests and benchmarks.
//
// A Server is one process on the loopback interface with a temporary folder of its own. It can be killed and started again
// under the same address, as after a crash. Stop leaves nothing behind; if the owner is killed, a small shell that waits
// for the end of a pipe does the same.
package localbroker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Program is a broker's program, and how it is told what to do.
type Program struct {
	name  string
	setup string // what scripts/setup.sh calls it
	args  func(dir string, port int) []string
	ready string // what it says when it takes connections
}

// Redis keeps nothing on disk: when it is killed all is gone.
var Redis = Program{
	name: "redis-server", setup: "redis", ready: "Ready to accept connections",
	args: func(dir string, port int) []string {
		return []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no"}
	},
}

// NATS is nats-server with JetStream.
var NATS = Program{
	name: "nats-server", setup: "nats", ready: "Server is ready",
	args: func(dir string, port int) []string {
		return []string{"--addr", "127.0.0.1", "--port", strconv.Itoa(port), "--jetstream", "--store_dir", dir}
	},
}

// path finds the program: the one that scripts/setup.sh has built goes before the system's.
func (p Program) path() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if built := filepath.Join(dir, ".cache", p.name); executable(built) {
			return built, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	if found, err := exec.LookPath(p.name); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("%s is not on this machine: get it with scripts/setup.sh %s", p.name, p.setup)
}

func executable(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
