package capturetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// writer is one of two sessions that write to t at the same time. A statement that would wait for the other fails soon,
// and its transaction with it.
type writer struct {
	conn   *pgx.Conn
	inside bool // a transaction is open
	saved  bool // with a savepoint
}

// exec runs a statement. What fails ends the transaction: an unwatched table would have refused it too.
func (w *writer) exec(ctx context.Context, sql string) error {
	if _, err := w.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		if _, err := w.conn.Exec(ctx, `rollback`); err != nil {
			return err
		}
		w.inside, w.saved = false, false
	}
	return nil
}

var (
	names    = rapid.SampledFrom([]string{"a", "b", "c"})
	texts    = rapid.SampledFrom([]string{"''", "'x'", "null", `e'quote " back \\ new\nline'`, "'é🐘'", "repeat('y', 5000)", "repeat('z', 9000)"})
	settings = rapid.SampledFrom([]string{
		"", "set timezone = 'Asia/Kolkata'", "set datestyle = 'German'", "set bytea_output = 'escape'", "set extra_float_digits = 0",
		"set search_path = public, pg_catalog", "set intervalstyle = 'sql_standard'", "set session_replication_role = replica",
		"set default_transaction_isolation = 'repeatable read'", "set plan_cache_mode = force_generic_plan", "reset all; set lock_timeout = '5ms'",
	})
)

// statement draws one that writes to t.
func statement(t *rapid.T, key bool) string {
	id := rapid.IntRange(0, 30)
	some := func() string {
		return fmt.Sprintf("id %% %d = %d", rapid.IntRange(1, 4).Draw(t, "modulus"), rapid.IntRange(0, 2).Draw(t, "rest"))
	}
	conflict := ""
	if key {
		conflict = rapid.SampledFrom([]string{" on conflict do nothing", " on conflict (id) do update set x = excluded.x, tenant_id = excluded.tenant_id"}).Draw(t, "conflict")
	}
	switch rapid.IntRange(0, 11).Draw(t, "statement") {
	case 0, 1:
		return fmt.Sprintf("insert into t (id, tenant_id, x) values (%d, '%s', %s)%s", id.Draw(t, "id"), names.Draw(t, "tenant"), texts.Draw(t, "x"), conflict)
	case 2:
		return fmt.Sprintf("insert into t (id, tenant_id, x) select i, '%s', i::text from generate_series(%d, %[2]d + %d) i%s", names.Draw(t, "tenant"), id.Draw(t, "from"),
			rapid.SampledFrom([]int{3, 120}).Draw(t, "rows"), strings.ReplaceAll(conflict, "tenant_id = excluded.tenant_id", "tenant_id = t.tenant_id"))
	case 3, 4:
		return fmt.Sprintf("update t set x = %s where %s", texts.Draw(t, "x"), some())
	case 5:
		return fmt.Sprintf("update t set tenant_id = %s where %s", rapid.SampledFrom([]string{"'a'", "'b'", "''", "null"}).Draw(t, "tenant"), some())
	case 6:
		return fmt.Sprintf("update t set id = id + %d where %s and id < 31", rapid.SampledFrom([]int{100, 200, 300}).Draw(t, "by"), some())
	case 7:
		return "delete from t where " + some()
	case 8:
		return fmt.Sprintf("update t set x = g(%d) where id = %d", id.Draw(t, "other"), id.Draw(t, "id"))
	case 9:
		return fmt.Sprintf("update t set x = 'returning' where id = %d returning g(%d)", id.Draw(t, "id"), id.Draw(t, "other"))
	case 10:
		return fmt.Sprintf("do $$ begin update t set x = 'block' where %s; raise 'no'; exception when others then delete from t where id = %d; end $$", some(), id.Draw(t, "id"))
	default:
		return rapid.SampledFrom([]string{
			"truncate t", "alter table t add if not exists y int default 7", "update t set x = x || '+'",
			"alter table t add if not exists z float8 default 0.1; update t set z = 0.2 where id = 1",
		}).Draw(t, "rare")
	}
}

// Whatever two sessions do at the same time to a table of any shape, in transactions with savepoints and errors, under
// triggers and with settings of all kinds: what is logged and announced replays to what the table holds.
func TestAnythingGoes(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `create type mood as enum ('good')`)
	m := newMirror(t, db)
	a, b := db.Conn(t, "postgres"), db.Conn(t, "postgres")
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(shapes).Draw(t, "shape")
		m.start(t, s)
		m.exec(t, `create function g(i int) returns text language plpgsql as $$ begin update t set x = 'inner' where id = i; return 'outer'; end $$;
			create function f() returns trigger language plpgsql as $$ begin if pg_trigger_depth() < 3 then update t set x = coalesce(x, '') || '!' where id = new.id + 1; end if; return null; end $$`)
		if name := rapid.SampledFrom([]string{"", "later", "  before"}).Draw(t, "trigger"); name != "" {
			m.exec(t, `create trigger "`+name+`" after insert or update on t for each row execute function f()`)
		}
		writers := []*writer{{conn: a}, {conn: b}}
		for _, w := range writers {
			if err := w.exec(ctx, "reset all; set lock_timeout = '5ms'"); err != nil {
				t.Fatalf("%v", err)
			}
		}
		var script []string
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			n := rapid.IntRange(0, 1).Draw(t, "writer")
			w := writers[n]
			var sql string
			switch what := rapid.IntRange(0, 9).Draw(t, "step"); {
			case !w.inside && what < 3:
				sql, w.inside = "begin", true
			case !w.inside && what == 3:
				sql = settings.Draw(t, "setting")
			case w.inside && what == 0:
				sql, w.inside, w.saved = "commit", false, false
			case w.inside && what == 1:
				sql, w.saved = "savepoint s", true
			case w.saved && what == 2:
				sql = "rollback to s"
			case w.saved && what == 3:
				sql, w.saved = "release s", false
			default:
				sql = statement(t, s.key)
			}
			script = append(script, fmt.Sprintf("%d: %s", n, sql))
			if err := w.exec(ctx, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		for _, w := range writers {
			if err := w.exec(ctx, rapid.SampledFrom([]string{"commit", "commit", "rollback"}).Draw(t, "end")); err != nil {
				t.Fatalf("%v", err)
			}
		}
		m.check(t, strings.Join(script, "\n"))
	})
}
