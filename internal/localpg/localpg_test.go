//go:build unix

package localpg

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query returns one value.
func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually waits for what nothing signals: processes of somebody else's child.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not in 30 seconds: " + what)
		}
	}
}

// alive says whether any process, a zombie excepted, names dir in its arguments or works in it, as backends do.
func alive(dir string) bool {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	return slices.ContainsFunc(processes, func(process string) bool {
		args, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(process, "cwd"))
		return strings.Contains(string(args), dir) || strings.HasPrefix(cwd, dir)
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func portFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	if got := query[string](t, s.URL("postgres"), "select current_user"); got != "postgres" {
		t.Errorf("we are %s", got)
	}
	if !alive(s.Dir()) {
		t.Error("the server's processes can't be seen: this test would see nothing left over either")
	}
	if pgid, err := syscall.Getpgid(s.PID()); err != nil || pgid == syscall.Getpgrp() {
		t.Errorf("the server is in our process group, where Ctrl-C would reach it (%v)", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(s.Dir()) || exists(s.Dir()) || !portFree(s.Port()) {
		t.Errorf("left over: processes %v, folder %v, port %v", alive(s.Dir()), exists(s.Dir()), !portFree(s.Port()))
	}
	if err := s.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if err := s.Resume(t.Context()); err == nil {
		t.Error("a server that was stopped came back")
	}
}

func TestFolderIsClosedToOthers(t *testing.T) {
	t.Parallel()
	s := start(t, Options{SocketOnly: true})
	if got := query[string](t, s.URL("postgres"), "show listen_addresses"); got != "" {
		t.Errorf("listens on %q", got)
	}
	info, err := os.Stat(s.Dir())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode is %v, %v", info.Mode(), err)
	}
	if !portFree(s.Port()) {
		t.Error("listens on the loopback interface")
	}
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	s := start(t, Options{InMemory: true})
	if in := filepath.Dir(s.Dir()) == memory; in != roomInMemory() {
		t.Errorf("the folder is %s; room in memory: %v", s.Dir(), roomInMemory())
	}
	if err := s.Stop(); err != nil || exists(s.Dir()) {
		t.Errorf("after its end the folder is there: %v, %v", exists(s.Dir()), err)
	}
}

func TestCrashAndComeBack(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	query[int](t, s.URL("postgres"), "with made as (select 1) select count(*) from made")
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "create table kept (n int); insert into kept values (7)"); err != nil {
		t.Fatal(err)
	}
	port := s.Port()
	for _, end := range []struct {
		name string
		how  func() error
	}{
		{"kill -9", func() error { return s.Kill(t.Context()) }},
		{"immediate", func() error { return s.Shutdown(t.Context(), Immediate) }},
		{"fast", func() error { return s.Shutdown(t.Context(), Fast) }},
	} {
		if err := end.how(); err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		if s.PID() != 0 || !portFree(port) {
			t.Errorf("%s: the server is still there", end.name)
		}
		if err := s.Resume(t.Context()); err != nil {
			t.Fatalf("after %s: %v", end.name, err)
		}
		if n := query[int](t, s.URL("postgres"), "select n from kept"); n != 7 || s.Port() != port {
			t.Errorf("after %s: %d in the table, port %d and not %d", end.name, n, s.Port(), port)
		}
	}
}

// TestKillWaitsForBackends: a postmaster that starts while an old backend lives would refuse.
func TestKillWaitsForBackends(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	backend, err := os.FindProcess(int(conn.PgConn().PID()))
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Kill(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a backend hangs: %v", err)
	}
	if err := backend.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	owner, err := runAs()
	if err != nil {
		t.Fatal(err)
	}
	root := owner.roots()[0]
	_, err = Start(t.Context(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("a wrong setting: %v", err)
	}
	if dir := folderOf(root, "no_such_setting"); dir != "" {
		t.Errorf("%s is left over", dir)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

// folderOf returns the server's folder whose configuration has the text.
func folderOf(root, text string) string {
	confs, _ := filepath.Glob(filepath.Join(root, dirPattern, "data", "postgresql.conf"))
	for _, conf := range confs {
		if b, err := os.ReadFile(conf); err == nil && strings.Contains(string(b), text) {
			return conf
		}
	}
	return ""
}

func TestDatabases(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	ctx := t.Context()
	for _, err := range []error{
		s.CreateDatabase(ctx, `odd "name"`, ""),
		s.Freeze(ctx, `odd "name"`),
		s.CreateDatabase(ctx, "copy", `odd "name"`),
		s.DropDatabase(ctx, "copy"),
		s.DropDatabase(ctx, "copy"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.CreateDatabase(ctx, "postgres", ""); err == nil || !strings.Contains(err.Error(), "create database") {
		t.Errorf("a name in use: %v", err)
	}
}
