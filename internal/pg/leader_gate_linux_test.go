package pg

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// The gate is granted in the very moment in which the wait for it times out. The leader gave it up, so he must not have it.
func TestTheGateIsGrantedTooLate(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	leader := newTerm(t, db.URL)
	leader.announced = true
	if err := leader.exec(t.Context(), `set lock_timeout = 900`); err != nil { // long enough to be stopped in it
		t.Fatal(err)
	}
	writer := db.Conn(t, "postgres")
	exec := func(sql string) {
		t.Helper()
		if _, err := writer.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`begin; select pg_advisory_xact_lock_shared(gate) from notifyql.mode`)
	asked := make(chan error, 1)
	go func() { asked <- leader.toQuiet(t.Context()) }()
	pid := int(leader.conn.PgConn().PID())
	waitFor(t, "the leader waits", func() (waits bool) {
		err := db.Pool(t).QueryRow(t.Context(), `select wait_event_type = 'Lock' from pg_stat_activity where pid = $1`, pid).Scan(&waits)
		return err == nil && waits
	})
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	waitFor(t, "its time is up", func() bool { return alarmPending(t, pid) })
	exec(`rollback`) // which grants it the gate
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	if leader.holds || leader.wait == 0 {
		t.Fatalf("it did not time out: %+v", leader)
	}
	var open bool
	if err := writer.QueryRow(t.Context(), `select pg_try_advisory_lock_shared(gate) from notifyql.mode`).Scan(&open); err != nil {
		t.Fatal(err)
	}
	if !open {
		t.Error("its session has the gate")
	}
}

// alarmPending reports whether a stopped process will be told of the end of a time when it goes on.
func alarmPending(t *testing.T, pid int) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "ShdPnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return bits&(1<<(syscall.SIGALRM-1)) != 0
		}
	}
	t.Fatal("the process has no mask of pending signals")
	return false
}
