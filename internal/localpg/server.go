package localpg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Options says which Postgres to start and how. The zero value is the newest version on this machine, set up to be
// fast rather than safe.
type Options struct {
	// Version is a major version, "15". Empty is any.
	Version string
	// Settings are put into postgresql.conf after our own. {"fsync": "on"} makes a crash of the machine safe; the crash
	// of a process is always safe.
	Settings map[string]string
	// From is a server that was Shutdown: the new one is a copy of it, in a tenth of the time that a new cluster takes. Of Options
	// Version does not count then. Both have one system identifier. Nil: a new cluster.
	From *Server
	// SocketOnly leaves out the loopback interface: only the Unix socket, in a folder that other users cannot enter.
	SocketOnly bool
	// InMemory keeps the folder off the disks where the machine has room for it in memory (Linux, with 4 GB free in
	// /dev/shm), for those who make and drop many databases: most of the time of that is a disk's file system.
	InMemory bool
}

// Server is one running, or for the moment stopped, Postgres.
type Server struct {
	install install
	owner   user
	dir     string // holds data/ and the socket
	port    int
	socket  bool // no TCP
	guard   *guard

	mu      sync.Mutex // guards what follows, and that one goroutine at a time starts or ends the processes
	run     *run       // nil while the server is down
	stopped bool
}

// Start creates a cluster and returns once it accepts connections. The caller must Stop it. On error, also that of a
// ctx that is done, nothing stays behind.
func Start(ctx context.Context, opts Options) (*Server, error) {
	owner, err := runAs()
	if err != nil {
		return nil, err
	}
	var inst install
	if opts.From != nil {
		inst = opts.From.install
	} else if inst, err = find(ctx, opts.Version); err != nil {
		return nil, err
	}
	sweep(ctx, owner)
	dir, err := owner.tempDir(opts.InMemory)
	if err != nil {
		return nil, fmt.Errorf("making a folder for Postgres: %w", err)
	}
	s := &Server{install: inst, owner: owner, dir: dir, socket: opts.SocketOnly}
	if s.guard, err = startGuard(dir, owner); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("starting the guard of %s: %w", dir, err)
	}
	if err := s.create(ctx, opts); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// create makes the cluster and starts it on a free port.
func (s *Server) create(ctx context.Context, opts Options) (err error) {
	if err := s.reachable(); err != nil {
		return err
	}
	if opts.From != nil {
		err = s.copyData(opts.From)
	} else {
		err = s.initdb(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.configure(opts.Settings); err != nil {
		return err
	}
	for range 10 { // another process may take the port between our look and the server's bind
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.Resume(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// reachable copies the binaries into the server's folder when the user it runs as cannot reach them, as in a clone
// below root's home.
func (s *Server) reachable() error {
	if s.owner.reaches(s.install.bin) {
		return nil
	}
	from, to := filepath.Dir(s.install.bin), filepath.Join(s.dir, "install")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copying the Postgres of %s to where %s can run it: %w", from, s.owner.name, err)
	}
	s.install.bin = filepath.Join(to, "bin")
	return s.owner.own(to)
}

func (s *Server) initdb(ctx context.Context) error {
	cmd := s.command(ctx, "initdb", "--pgdata="+s.data(), "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--lc-ctype="+utf8Ctype, "--no-sync", "--wal-segsize=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb of Postgres %s in %s: %w: %s", s.install.version, s.dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copyData takes over the cluster of a server that is down.
func (s *Server) copyData(from *Server) error {
	if from.PID() != 0 {
		return fmt.Errorf("the server in %s, to be copied, is not Shutdown", from.dir)
	}
	if err := os.CopyFS(s.data(), os.DirFS(from.data())); err != nil {
		return fmt.Errorf("copying the cluster in %s: %w", from.dir, err)
	}
	if err := os.Chmod(s.data(), 0o700); err != nil { // Postgres insists
		return err
	}
	return s.owner.own(s.data())
}

// configure writes the settings. The server's user owns the file already: it is written in place.
func (s *Server) configure(settings map[string]string) error {
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	listen := "127.0.0.1"
	if s.socket {
		listen = ""
	}
	for _, set := range [][2]string{
		{"listen_addresses", listen},
		{"unix_socket_directories", s.dir},
		{"max_connections", "200"},
		{"shared_buffers", "32MB"},
		{"max_wal_size", "1GB"},
		{"wal_level", "replica"},
		{"max_prepared_transactions", "20"},
		{"fsync", "off"},
		{"full_page_writes", "off"},
		{"log_destination", "stderr"},
		{"logging_collector", "off"},
		{"lc_messages", "C"},
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},
	} {
		if _, given := settings[set[0]]; !given {
			fmt.Fprintf(f, "%s = %s\n", set[0], quote(set[1]))
		}
	}
	for name, value := range settings {
		fmt.Fprintf(f, "%s = %s\n", name, quote(value))
	}
	return f.Close()
}

// Version is the major version that runs, "15".
func (s *Server) Version() string { return s.install.major() }

// Dir is the server's folder.
func (s *Server) Dir() string { return s.dir }

// Port is the server's port, the same for its whole life.
func (s *Server) Port() int { return s.port }

// URL is where database is to be reached, as the superuser postgres, over TCP unless Options.SocketOnly.
func (s *Server) URL(database string) string { return s.URLAs("postgres", database) }

// URLAs is URL for another role.
func (s *Server) URLAs(role, database string) string {
	if s.socket {
		return s.SocketURL(role, database)
	}
	u := url.URL{
		Scheme: "postgres", User: url.User(role), Path: "/" + database,
		Host: "127.0.0.1:" + strconv.Itoa(s.port), RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketURL is URLAs over the Unix socket.
func (s *Server) SocketURL(role, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(role), Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}, "port": {strconv.Itoa(s.port)}}.Encode(),
	}
	return u.String()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// quote writes a value as postgresql.conf wants it.
func quote(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }
