package localpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Mode is how a server is shut down.
type Mode int

const (
	Fast      Mode = iota // ends the sessions, writes a checkpoint
	Immediate             // ends everything at once; the next start recovers, as after a crash
	Smart                 // waits until the sessions have ended by themselves
)

func (m Mode) signal() os.Signal {
	return [...]os.Signal{Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT, Smart: syscall.SIGTERM}[m]
}

var (
	errPortTaken = errors.New("port taken")
	errBusy      = errors.New("processes of the run before are not gone yet")
)

// run is the server's processes from one start to their end.
type run struct {
	process *os.Process
	ready   chan struct{} // closed when it accepts connections
	exited  chan struct{} // closed when the postmaster is gone
	gone    chan struct{} // closed when the last process of the server is gone

	mu  sync.Mutex
	log []string // the last lines
}

const logLines = 200

// Resume starts the server again, on the same port, after Kill or Shutdown; it does nothing while it runs.
func (s *Server) Resume(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("localpg: the server was stopped for good")
	}
	if s.run != nil {
		return nil
	}
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errBusy) {
			return err
		}
	}
}

// launch starts the postmaster and waits until it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	r, err := s.spawn()
	if err != nil {
		return fmt.Errorf("starting Postgres %s in %s: %w", s.install.version, s.dir, err)
	}
	select {
	case <-r.ready:
		s.run = r
		return nil
	case <-r.gone:
		return r.failure()
	case <-ctx.Done():
		r.process.Signal(Immediate.signal())
		<-r.gone
		return fmt.Errorf("waiting for Postgres to accept connections: %w", ctx.Err())
	}
}

// spawn starts the postmaster with its log coming to us. All processes of the server inherit the pipe: its end is the
// end of the last of them.
func (s *Server) spawn() (*run, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	cmd := s.command(context.Background(), "postgres", "-D", s.data(), "-p", strconv.Itoa(s.port))
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		read.Close()
		return nil, err
	}
	r := &run{
		process: cmd.Process,
		ready:   make(chan struct{}), exited: make(chan struct{}), gone: make(chan struct{}),
	}
	go func() {
		defer close(r.exited)
		cmd.Wait() // how it ended is in the log
	}()
	go func() {
		r.follow(read)
		read.Close()
		<-r.exited
		close(r.gone)
	}()
	return r, nil
}

// follow keeps the last lines of the log and sees the server become ready.
func (r *run) follow(log io.Reader) {
	lines, ready := bufio.NewReaderSize(log, 64<<10), false
	for {
		line, prefix, err := lines.ReadLine() // a longer line comes in parts, which is fine for reading
		if err != nil {
			return
		}
		text := string(line)
		r.mu.Lock()
		r.log = append(r.log, text)
		if len(r.log) > 2*logLines {
			r.log = append([]string(nil), r.log[len(r.log)-logLines:]...)
		}
		r.mu.Unlock()
		// A standby says "read-only connections".
		if !ready && !prefix && strings.Contains(text, "database system is ready to accept ") && strings.HasSuffix(text, "connections") {
			ready = true
			close(r.ready)
		}
	}
}

func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "\n")
}

// failure says why the postmaster ended before it was ready.
func (r *run) failure() error {
	log := r.text()
	switch {
	case strings.Contains(log, "could not create any TCP/IP sockets"), strings.Contains(log, "could not create any Unix-domain sockets"):
		return fmt.Errorf("%w: %s", errPortTaken, log)
	case strings.Contains(log, "is still in use"): // the shared memory of backends that have not yet seen the end
		return errBusy
	default:
		return fmt.Errorf("the Postgres process ended at once: %s", log)
	}
}

// Log returns the last lines that the server has logged since it was last started.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return ""
	}
	return s.run.text()
}

// PID is the postmaster's process id, 0 while the server is down.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return 0
	}
	return s.run.process.Pid
}

// Kill ends the postmaster as kill -9 does and waits until its children have noticed: a crash.
func (s *Server) Kill(ctx context.Context) error { return s.end(ctx, os.Kill) }

// Shutdown ends the server and keeps its folder and port. When ctx is done first, it goes on ending.
func (s *Server) Shutdown(ctx context.Context, mode Mode) error { return s.end(ctx, mode.signal()) }

// Restart is Shutdown and Resume.
func (s *Server) Restart(ctx context.Context, mode Mode) error {
	if err := s.Shutdown(ctx, mode); err != nil {
		return err
	}
	return s.Resume(ctx)
}

func (s *Server) end(ctx context.Context, how os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	s.run.process.Signal(how) // fails only if it has ended already
	select {
	case <-s.run.gone:
		s.run = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the processes of Postgres to end: %w", ctx.Err())
	}
}

// stopTime is how long Stop lets the server end by itself. It is the postmaster's own limit for its children, doubled.
const stopTime = 10 * time.Second

// Stop ends the server and removes its folder. Further calls do nothing.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := s.end(ctx, Immediate.signal())
	if err != nil {
		err = s.end(context.WithoutCancel(ctx), os.Kill)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return err
	}
	s.stopped = true
	return errors.Join(err, os.RemoveAll(s.dir), s.guard.release())
}

// Program runs one of Postgres's own programs on the server's data folder, as the user that owns it, and returns what it
// printed. Most of them want the server to be down.
func (s *Server) Program(ctx context.Context, program string, args ...string) (string, error) {
	out, err := s.command(ctx, program, append([]string{"--pgdata=" + s.data()}, args...)...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// command prepares one of the server's programs: as the right user, in a session of its own, with none of the
// caller's PG… variables.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.install.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + s.install.bin + ":/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + s.dir}
	cmd.SysProcAttr = s.owner.process()
	return cmd
}
