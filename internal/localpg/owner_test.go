//go:build unix

package localpg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// holdServer makes the test binary a process that owns a server until its standard input ends.
const holdServer = "LOCALPG_TEST_HOLD_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(holdServer) != "" {
		if err := hold(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func hold() error {
	s, err := Start(context.Background(), Options{})
	if err != nil {
		return err
	}
	fmt.Println(s.Dir(), s.PID(), s.Port(), s.guard.cmd.Process.Pid)
	io.Copy(io.Discard, os.Stdin)
	return s.Stop()
}

// owned is a server that a process of its own holds.
type owned struct {
	cmd              *exec.Cmd
	stdin            io.Closer
	dir              string
	pid, port, guard int
}

// own starts such a process, as user.
func own(t *testing.T, as *syscall.SysProcAttr) owned {
	t.Helper()
	home := publicHome(t)
	cmd := exec.CommandContext(t.Context(), filepath.Join(home, "owner"))
	cmd.Dir = home
	cmd.Env = append(os.Environ(), holdServer+"=1", "TMPDIR=/tmp")
	cmd.SysProcAttr = as
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	o := owned{cmd: cmd, stdin: stdin}
	if _, err := fmt.Sscan(line, &o.dir, &o.pid, &o.port, &o.guard); err != nil {
		t.Fatalf("the owner says %q", line)
	}
	return o
}

// publicHome makes a folder that every user can enter, with this program in it and, where Start looks for it, a Postgres:
// go test's own folder, and perhaps the whole repository, are closed to others.
func publicHome(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "localpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	from, to := filepath.Dir(inst.bin), filepath.Join(dir, ".cache", "postgres-any")
	place := func() error { return os.Symlink(from, to) }
	if !(user{other: true}).reaches(inst.bin) {
		place = func() error { return os.CopyFS(to, os.DirFS(from)) }
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		writeProgram(filepath.Join(dir, "owner"), program),
		os.WriteFile(filepath.Join(dir, "go.mod"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, ".cache"), 0o755),
		place(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// nothingLeft waits for all traces of the server to go.
func (o owned) nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, "the server's processes end, and its folder goes", func() bool {
		return !alive(o.dir) && !exists(o.dir) && portFree(o.port)
	})
}

// users are those that a test as root can play; an ordinary user only plays itself.
func users() map[string]*syscall.SysProcAttr {
	all := map[string]*syscall.SysProcAttr{"ourselves": nil}
	if os.Geteuid() == 0 {
		// 65534 is nobody on Linux; it owns nothing and is in no group.
		all["an ordinary user"] = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return all
}

func TestOwnerEnds(t *testing.T) {
	t.Parallel()
	for name, as := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := own(t, as)
			o.stdin.Close()
			if err := o.cmd.Wait(); err != nil {
				t.Error(err)
			}
			if alive(o.dir) || exists(o.dir) || !portFree(o.port) {
				t.Error("something is left over")
			}
		})
	}
}

func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	for name, as := range users() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := own(t, as)
			if !alive(o.dir) || !exists(o.dir) {
				t.Error("the server can't be seen")
			}
			o.cmd.Process.Kill()
			o.cmd.Wait()
			o.nothingLeft(t)
		})
	}
}

func TestNextStartCleansUpAfterOwnerAndGuard(t *testing.T) {
	t.Parallel()
	o := own(t, nil)
	if err := syscall.Kill(o.guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o.cmd.Process.Kill()
	o.cmd.Wait()
	if !exists(o.dir) || !alive(o.dir) {
		t.Fatal("somebody else has cleaned up")
	}
	living := start(t, Options{})
	if !exists(o.dir) {
		t.Error("a folder so young may be in the making")
	}
	old := time.Now().Add(-2 * unclaimed)
	for _, dir := range []string{o.dir, living.Dir()} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	start(t, Options{})
	o.nothingLeft(t)
	if got := query[int](t, living.URL("postgres"), "select 1"); got != 1 {
		t.Error("a living server was swept away")
	}
}

// TestGuardSparesStrangers: the process id in a dead server's folder may belong to anybody by now.
func TestGuardSparesStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stranger := exec.Command("/bin/sh", "-c", "read -r _")
	stdin, err := stranger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(stranger.Process.Pid) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(pid), 0o600); err != nil {
		t.Fatal(err)
	}
	cleaner(t.Context(), dir, user{}).Run()
	if exists(dir) {
		t.Error("the folder is still there")
	}
	stdin.Close()
	if err := stranger.Wait(); err != nil && strings.Contains(err.Error(), "signal") {
		t.Errorf("the stranger: %v", err)
	}
}

// writeProgram writes a file that is to be run. A process that another test starts meanwhile would have it open for a moment, and nobody can
// run what is open for writing.
func writeProgram(path string, program []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, program, 0o755)
}
