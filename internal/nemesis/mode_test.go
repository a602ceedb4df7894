package nemesis

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// modeFaults disturb the modes of the stream, and who says which it is in.
var modeFaults = []fault{
	{"mode auto", 3, mode("auto")},
	{"mode pinned busy", 3, mode("busy")},
	{"mode pinned quiet", 2, mode("quiet")},
	{"mode forced to and fro", 3, (*world).toAndFro},
	{"leader terminated", 4, terminate("notifyql leader")},
	{"leader frozen", 3, (*world).freezeLeader},
	{"gate shared by a stranger", 2, stranger("pg_advisory_lock_shared", "gate", false)},
	{"gate taken by a stranger", 2, stranger("pg_advisory_lock", "gate", false)},
	{"gate taken as its holder ends", 2, stranger("pg_advisory_lock", "gate", true)},
	{"leader's place taken by a stranger", 2, stranger("pg_advisory_lock", "lead", true)},
}

const pin = "update notifyql.setting set mode = $1"

// mode pins a mode, or leaves it to the nodes, until another fault does.
func mode(name string) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		return time.Time{}, w.db.insist(ctx, pin, name)
	}
}

// toAndFro pins one mode and the other for a while, and then none.
func (w *world) toAndFro(ctx context.Context) (time.Time, error) {
	w.heavy.Lock() // a transaction that takes long would keep it busy
	defer w.heavy.Unlock()
	names := []string{"quiet", "busy"}
	for i := range 4 + w.rnd.IntN(12) {
		if err := w.db.insist(ctx, pin, names[i%2]); err != nil {
			return time.Time{}, err
		}
		pass(ctx, w.some(50, 700))
	}
	return time.Time{}, w.db.insist(context.WithoutCancel(ctx), pin, "auto")
}

// leader is the node that leads, or nil. Postgres knows a session's port, and the link whose it is.
func (w *world) leader(ctx context.Context) (*node, error) {
	conn, err := w.db.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
	var port int
	err = conn.QueryRow(ctx, `
		select a.client_port
		from notifyql.mode m
		join pg_locks l on l.locktype = 'advisory' and l.granted and l.objsubid = 1
		 and l.classid::bigint = m.lead >> 32 & 4294967295 and l.objid::bigint = m.lead & 4294967295
		join pg_stat_activity a on a.pid = l.pid and a.application_name = 'notifyql leader'`).Scan(&port)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	for _, n := range w.nodes {
		if n.database.Uses(port) {
			return n, err
		}
	}
	return nil, err
}

// freezeLeader stops the process of the node that leads, which then holds what it holds and says nothing.
func (w *world) freezeLeader(ctx context.Context) (time.Time, error) {
	n, err := w.leader(ctx)
	if err != nil || n == nil {
		return time.Time{}, err
	}
	n.signal(syscall.SIGSTOP)
	pass(ctx, w.some(200, 6000))
	n.signal(syscall.SIGCONT)
	return time.Now(), nil
}

// stranger is a session that is none of the nodes' and plays with one of their locks for a while. next: it waits for it when its holder's
// session ends.
func stranger(function, lock string, next bool) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		conn, err := w.db.connect(ctx)
		if err != nil {
			return time.Time{}, err
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it lets go of the lock
		waiting := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, fmt.Sprintf("set lock_timeout = '2s'; select %s(%s) from notifyql.mode", function, lock))
			waiting <- err
		}()
		if next {
			pass(ctx, w.some(20, 100))
			if _, err := terminate("notifyql leader")(w, ctx); err != nil {
				return time.Time{}, errors.Join(err, <-waiting)
			}
		}
		if err := <-waiting; err != nil { // it was not to be had
			w.say("the lock was not to be had: %v", err)
			return time.Time{}, nil
		}
		pass(ctx, w.some(200, 3000))
		return time.Time{}, nil
	}
}
