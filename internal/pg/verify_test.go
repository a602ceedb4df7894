package pg

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// verified are tables of each kind: with a key, of several columns, without one, in partitions, with a tenant from elsewhere, with a column
// that is excluded, with values whose text a session's settings could change.
const verified = `
	create table plain (id int primary key, tenant_id text, v text, secret text);
	create table keyless (tenant_id text, v int);
	create table "Odd ""name""" ("k\1" text, k2 date, tenant_id text, at timestamptz, ats timestamptz[], money numeric, primary key ("k\1", k2));
	create table parts (id int, tenant_id text, v int, primary key (id)) partition by range (id);
	create table parts_1 partition of parts for values from (0) to (100);
	create table parts_2 partition of parts for values from (100) to (10000);
	create table children (id int primary key, plain_id int references plain, v text);
	select notifyql.watch('plain', exclude => '{secret}'), notifyql.watch('keyless'), notifyql.watch('"Odd ""name"""', shared => true), notifyql.watch('parts'),
	       notifyql.watch('children', tenant_via => 'plain_id');
	insert into plain select i, i % 3, i, 'secret' from generate_series(1, 200) i;
	insert into keyless select i % 3, i % 7 from generate_series(1, 100) i;
	insert into "Odd ""name""" select concat('a"', i), '2024-02-29', 'a', now(), array[now(), null], i / 7.0 from generate_series(1, 50) i;
	insert into parts select i, 'a', 0 from generate_series(1, 200) i;
	insert into children select i, i, 'x' from generate_series(1, 100) i;`

// writesOf is a transaction of a writer.
func writesOf(writer, n int) string {
	id := 1000*(writer+1) + n
	return fmt.Sprintf(`
		set timezone = 'Asia/Tokyo';
		insert into plain values (%[1]d, 'a', 'new');
		update plain set v = concat(v, 'x') where id %% 10 = %[2]d;
		update plain set tenant_id = '9' where id = %[3]d;
		insert into keyless values ('a', %[2]d), ('a', %[2]d);
		delete from keyless where ctid in (select ctid from keyless where v = %[2]d limit 1);
		insert into "Odd ""name""" values ('b\%[1]d', now(), null, '2024-02-29 12:00', '{1800-01-01, "0044-03-15 12:00 BC", infinity, 20240-01-01 12:00:00.123}', 'NaN') on conflict do nothing;
		insert into parts values (%[1]d, null, 1);
		update parts set id = 10 * id where id = %[3]d and id < 100;
		insert into children values (%[1]d, %[3]d, 'y');
		savepoint s; delete from children where id %% 10 = %[2]d; rollback to s;
		delete from children where id = %[3]d;
		delete from plain where id = %[1]d - 3`, id, n%10, n%200+1)
}

// writeAlong writes until the test, or what it returns, ends; passed waits for as many transactions more.
func writeAlong(t *testing.T, db *pgtest.DB, writers int) (passed func(context.Context) error, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done atomic.Int64
	more := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for w := range writers {
		conn := db.Conn(t, "postgres")
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := conn.Exec(context.WithoutCancel(ctx), "begin; "+writesOf(w, n)+"; commit")
				if err != nil {
					if _, err := conn.Exec(context.WithoutCancel(ctx), "rollback"); err != nil {
						t.Error(err)
						return
					}
					if !strings.Contains(err.Error(), "deadlock") && !strings.Contains(err.Error(), "violates") {
						t.Error(err)
						return
					}
				}
				done.Add(1)
				select {
				case more <- struct{}{}:
				default:
				}
			}
		})
	}
	passed = func(ctx context.Context) error {
		for until := done.Load() + int64(10*writers); done.Load() < until; {
			select {
			case <-more:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	return passed, func() { cancel(); wg.Wait() }
}

// What the log has in between makes of the first image the second, while writers write.
func TestVerify(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, verified)
	login := db.Role(t, "")
	db.Exec(t, `do $$ begin execute format('grant %I to `+login+`', notifyql.server_role()); end $$`)
	passed, end := writeAlong(t, db, 3)
	defer end()
	for range 3 {
		if err := passed(t.Context()); err != nil {
			t.Fatal(err)
		}
		reports, err := Verify(t.Context(), db.URLAs(login), Verification{pause: passed})
		if err != nil || len(reports) != 5 {
			t.Fatalf("%+v, %v", reports, err)
		}
		for _, r := range reports {
			if !r.OK() || r.Rows == 0 || r.Changes == 0 {
				t.Errorf("%+v", r)
			}
		}
	}
}

// What bypasses the log is found, with its key, while writers write.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	untriggered := func(table, statement string) string {
		trigger := `" notifyql"`
		if table == "parts_2" {
			trigger = `" notifyql root"`
		}
		return fmt.Sprintf(`begin; alter table %s disable trigger %s; %s; alter table %[1]s enable always trigger %[2]s; commit`, table, trigger, statement)
	}
	for name, c := range map[string]struct {
		table string
		do    string
		want  []Difference
	}{
		"an update without the trigger": {"plain", untriggered("plain", `update plain set v = 'z' where id = 150`), []Difference{{"different", `{"id":150}`}}},
		"an insert without the trigger": {"plain", untriggered("plain", `insert into plain values (500, 'a', 'z')`), []Difference{{"missing", `{"id":500}`}}},
		"a delete without the trigger":  {"plain", untriggered("plain", `delete from plain where id = 151`), []Difference{{"extra", `{"id":151}`}}},
		"several": {"plain", untriggered("plain", `delete from plain where id = 151; update plain set id = 501 where id = 152; update plain set v = 'z' where id = 153`), []Difference{
			{"extra", `{"id":151}`}, {"extra", `{"id":152}`}, {"different", `{"id":153}`}, {"missing", `{"id":501}`},
		}},
		"more than are named":       {"plain", untriggered("plain", `update plain set v = 'z'`), nil},
		"a column that is excluded": {"plain", untriggered("plain", `update plain set secret = 'other'`), []Difference{}},
		"the log lost a change":     {"parts", `insert into parts values (600, 'a', 0); delete from notifyql.change where new ->> 'id' = '600'`, []Difference{{"missing", `{"id":600}`}}},
		"the log lost one of two":   {"parts", `update parts set v = 1 where id = 150; delete from notifyql.change where new ->> 'v' = '1' and new ->> 'id' = '150'; update parts set v = 2 where id = 150`, []Difference{{"different", `{"id":150}`}}},
		"the log has what never was": {
			"parts", `insert into notifyql.change (watch, op, shared, tenant, new) select id, 'I', false, 'a', '{"id":700,"tenant_id":"a","v":0}' from notifyql.watched where tbl = 'parts'::regclass`,
			[]Difference{{"extra", `{"id":700}`}},
		},
		"a partition without its trigger": {"parts", untriggered("parts_2", `update parts set v = 9 where id = 199`), []Difference{{"different", `{"id":199}`}}},
		"without a key":                   {"keyless", untriggered("keyless", `insert into keyless values ('q', 77)`), []Difference{{"missing", `{"tenant_id":"q","v":77}`}}},
		"a key of two columns": {
			`"Odd ""name"""`, untriggered(`"Odd ""name"""`, `update "Odd ""name""" set money = 0 where "k\1" = 'a"7'`),
			[]Difference{{"different", `{"k\\1":"a\"7","k2":"2024-02-29"}`}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Exec(t, verified)
			reports, err := Verify(t.Context(), db.URL, Verification{Tables: []string{c.table}, pause: func(ctx context.Context) error {
				conn := db.Conn(t, "postgres")
				_, err := conn.Exec(ctx, c.do)
				return err
			}})
			if err != nil || len(reports) != 1 {
				t.Fatalf("%+v, %v", reports, err)
			}
			r := reports[0]
			switch {
			case c.want == nil:
				if len(r.Differences) != 20 || !r.More || r.OK() {
					t.Errorf("%+v", r)
				}
			case r.More || r.Problem != "" || fmt.Sprint(r.Differences) != fmt.Sprint(c.want):
				t.Errorf("%+v, want %v", r, c.want)
			}
		})
	}
}

// What can't be told is not passed over.
func TestVerifySaysWhatItCannotTell(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, verified)
	db.Exec(t, `create table other (id int)`)
	if _, err := Verify(t.Context(), db.URL, Verification{Tables: []string{"other"}}); err == nil || !strings.Contains(err.Error(), "other is not watched") {
		t.Errorf("%v", err)
	}
	if _, err := Verify(t.Context(), db.URL, Verification{Tables: []string{"nowhere"}}); err == nil || !strings.Contains(err.Error(), "nowhere is not watched") {
		t.Errorf("%v", err)
	}
	reports, err := Verify(t.Context(), db.URL, Verification{Tables: []string{"plain"}, pause: func(ctx context.Context) error {
		_, err := db.Pool(t).Exec(ctx, `update plain set v = 'y' where id = 1; update notifyql.change set flags = 1, new = null, old = null where old ->> 'id' = '1'`)
		return err
	}})
	if err != nil || reports[0].OK() || reports[0].Problem == "" {
		t.Errorf("%+v, %v", reports, err)
	}
	// Who alters a table meanwhile waits, for as long as it takes.
	_, err = Verify(t.Context(), db.URL, Verification{pause: func(ctx context.Context) error {
		conn := db.Conn(t, "postgres")
		if _, err := conn.Exec(ctx, `set lock_timeout = 1; truncate keyless`); err == nil || !isLockTimeout(err) {
			t.Errorf("%v", err)
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Verify(ctx, db.URL, Verification{pause: func(ctx context.Context) error { cancel(); return ctx.Err() }}); err == nil {
		t.Error("a verification that was called off reports")
	}
	var open int
	waitFor(t, "its sessions end", func() bool {
		err := db.Pool(t).QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and application_name = 'notifyql'`).Scan(&open)
		return err == nil && open == 0
	})
}
