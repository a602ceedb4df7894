package localbroker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is one broker. Its methods may be called from any goroutine.
type Server struct {
	Addr string // host:port

	program Program
	path    string
	args    []string
	dir     string
	guard   *exec.Cmd
	pipe    io.Closer // its end sets the guard to work

	mu  sync.Mutex
	run *run
}

// run is the process from one start to its end.
type run struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it is gone and all that it said was read

	mu  sync.Mutex
	log []string // the last lines
}

const (
	logLines = 100
	patience = 30 * time.Second // for the start
)

// New starts a broker that ends with t. Where the program is not installed t fails. args come behind ours.
func New(t testing.TB, p Program, args ...string) *Server {
	t.Helper()
	s, err := Start(p, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what %s said last:\n%s", p.name, s.Log())
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Start starts a broker. The caller stops it.
func Start(p Program, args ...string) (*Server, error) {
	s := &Server{program: p}
	var err error
	if s.path, err = p.path(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "notifyql-broker-*"); err != nil {
		return nil, err
	}
	if err = s.startGuard(); err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	for range 10 { // somebody may take the port before the program does
		port := 20000 + rand.IntN(12000) // below those of outgoing connections: it must be free when the server comes back
		s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, lerr := net.Listen("tcp", s.Addr); lerr != nil {
			err = lerr
			continue
		} else {
			l.Close()
		}
		s.args = append(p.args(s.dir, port), args...)
		if err = s.Resume(); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, s.Stop())
}

// guardScript ends the server and removes its folder when its owner has ended.
const guardScript = `read -r _; if [ -e "$1/pid" ]; then kill -9 "$(cat "$1/pid")"; fi; rm -rf "$1"`

func (s *Server) startGuard() error {
	s.guard = exec.Command("/bin/sh", "-c", guardScript, "guard", s.dir)
	s.guard.Dir = "/"
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	if s.pipe, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	return s.guard.Start()
}

// Resume starts the server again, under the same address, after Kill; it does nothing while it runs.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd := exec.Command(s.path, s.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal for the owner's terminal is not for it
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		return err
	}
	r := &run{cmd: cmd, done: make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		defer close(r.done)
		r.follow(read, s.program.ready, ready)
		read.Close()
		_ = cmd.Wait() // how it ended is in what it said
	}()
	if err := os.WriteFile(s.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(err, s.kill(r))
	}
	select {
	case <-ready:
		s.run = r
		return nil
	case <-r.done:
		err = fmt.Errorf("%s ended:\n%s", s.program.name, r.said())
	case <-time.After(patience):
		err = fmt.Errorf("%s did not start in %v:\n%s", s.program.name, patience, r.said())
	}
	return errors.Join(err, s.kill(r))
}

func (s *Server) pidFile() string { return filepath.Join(s.dir, "pid") }

// follow reads what the process says until it ends.
func (r *run) follow(from io.Reader, sign string, ready chan struct{}) {
	for lines := bufio.NewReader(from); ; {
		line, err := lines.ReadString('\n')
		r.mu.Lock()
		if r.log = append(r.log, line); len(r.log) > logLines {
			r.log = r.log[1:]
		}
		r.mu.Unlock()
		if ready != nil && strings.Contains(line, sign) {
			close(ready)
			ready = nil
		}
		if err != nil {
			return
		}
	}
}

func (r *run) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "")
}

// Log is what the server said last.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return ""
	}
	return s.run.said()
}

// Kill ends the server with SIGKILL, and returns when it is gone.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	r := s.run
	s.run = nil
	return s.kill(r)
}

func (s *Server) kill(r *run) error {
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-r.done
	return os.Remove(s.pidFile())
}

// Freeze stops the server where it is, as a machine does that swaps or is moved; Thaw lets it go on.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errors.New(s.program.name + " does not run")
	}
	return s.run.cmd.Process.Signal(sig)
}

// Stop ends the server for good and removes its folder.
func (s *Server) Stop() error {
	err := s.Kill()
	s.pipe.Close()
	return errors.Join(err, s.guard.Wait())
}
