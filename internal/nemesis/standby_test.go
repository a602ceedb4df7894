package nemesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/notifyql/notifyql/internal/link"
	"github.com/notifyql/notifyql/internal/localpg"
)

// standby makes a server that follows the primary through a link: a copy of its files, as
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP describes.
func (w *world) standby(ctx context.Context) (*localpg.Server, *link.Link, error) {
	primary := w.db.server()
	l := link.New(w.t, w.db.addr())
	s, err := localpg.Start(ctx, localpg.Options{Settings: settings(w.durable), Version: primary.Version()})
	if err != nil {
		return nil, nil, err
	}
	w.t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			w.t.Error(err)
		}
	})
	if err := s.Shutdown(ctx, localpg.Immediate); err != nil {
		return nil, nil, err
	}
	to := filepath.Join(s.Dir(), "data")
	label, err := w.backUp(ctx, filepath.Join(primary.Dir(), "data"), to)
	if err != nil {
		return nil, nil, err
	}
	_, port, _ := strings.Cut(l.Addr, ":")
	for name, text := range map[string]string{
		"backup_label":         label,
		"standby.signal":       "",
		"postgresql.auto.conf": fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%s user=postgres'\nunix_socket_directories = '%s'\n", port, s.Dir()),
	} {
		if err := os.WriteFile(filepath.Join(to, name), []byte(text), 0o600); err != nil {
			return nil, nil, err
		}
	}
	if err := own(s.Dir(), to); err != nil {
		return nil, nil, err
	}
	return s, l, s.Resume(ctx)
}

// backUp replaces a server's files with those of another that runs, and returns what goes into the file backup_label.
func (w *world) backUp(ctx context.Context, from, to string) (label string, err error) {
	conn, err := w.db.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has served
	start, stop := "pg_backup_start('nemesis', true)", "pg_backup_stop(false)"
	if major, _ := strconv.Atoi(w.db.server().Version()); major < 15 {
		start, stop = "pg_start_backup('nemesis', true, false)", "pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, "select "+start); err != nil {
		return "", err
	}
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	if err := copyFiles(from, to); err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, "select labelfile from "+stop).Scan(&label)
	return label, err
}

// copyFiles copies a data directory in use: files may come and go.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		top, _, nested := strings.Cut(rel, string(filepath.Separator))
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case nested && (top == "pg_wal" || top == "pg_replslot"), strings.HasPrefix(rel, "postmaster."):
			return nil
		}
		return copyFile(name, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// own gives all files below dir to the owner of like.
func own(like, dir string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("files have no owner here")
	}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(owner.Uid), int(owner.Gid))
	})
}

// promote lets a standby take over: one that has all that the primary had, or one that lacks the last of it.
func promote(behind bool) func(*world, context.Context) (time.Time, error) {
	return func(w *world, ctx context.Context) (time.Time, error) {
		ctx = context.WithoutCancel(ctx)
		next, replication, err := w.standby(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if err := w.caughtUp(ctx, next); err != nil {
			return time.Time{}, err
		}
		pass(ctx, w.some(200, 1000))
		how := localpg.Fast // waits until the standby has all of it
		if behind {
			replication.Cut()
			pass(ctx, w.some(100, 1500))
			how = localpg.Immediate
		}
		w.say("the primary goes down")
		if err := w.db.server().Shutdown(ctx, how); err != nil {
			return time.Time{}, err
		}
		if behind || !w.durable {
			w.db.losing(time.Now())
		}
		w.db.move(next)
		if err := w.db.insist(ctx, "select pg_promote()"); err != nil {
			return time.Time{}, err
		}
		for _, n := range w.nodes {
			n.database.Lead(w.db.addr())
		}
		w.say("promoted")
		return time.Now(), nil
	}
}

// caughtUp waits until the standby has what the primary had when it was asked.
func (w *world) caughtUp(ctx context.Context, standby *localpg.Server) error {
	conn, err := w.db.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has served
	var at string
	if err := conn.QueryRow(ctx, "select pg_current_wal_lsn()::text").Scan(&at); err != nil {
		return err
	}
	follower := &database{primary: standby}
	for range 600 {
		c, err := follower.connect(ctx)
		if err != nil {
			return err
		}
		var there bool
		err = c.QueryRow(ctx, "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", at).Scan(&there)
		c.Close(ctx) //nolint:errcheck // it has served
		if err != nil || there {
			return err
		}
		pass(ctx, 50*time.Millisecond)
	}
	return errors.New("the standby does not follow")
}

// move makes another server the primary.
func (d *database) move(to *localpg.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.primary = to
}
