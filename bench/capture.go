package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

// A table is an ordinary one: a key, a tenant, and columns of the types that most tables are made of.
const captureTable = `
	create table %[1]s (id int primary key, tenant_id uuid not null, status text, amount numeric(10,2), customer text, note text,
		created_at timestamptz default now(), at timestamptz default now(), n int not null default 0);
	insert into %[1]s (id, tenant_id, status, amount, customer, note)
		select i, md5((i %% 10)::text)::uuid, 'open', i * 1.1, 'customer ' || i, repeat('n', 30) from generate_series(1, 20000) i;
	vacuum analyze %[1]s`

// A layout is capture in another way, to know what the one that was taken costs: replacements in the text of the functions.
type layout struct {
	table   string
	pairs   []string // old, new, old, new …
	what    string
	foreign bool // it does not keep what is promised
}

// announced is where capture announces. Without it a change goes to the log, and nobody asks whether it should be notified.
const announced = "returning notifyql.announced(c) into done"

const changedOnly = `(select json_object_agg(o.key, o.value) from json_each(images[2]) o where (images[1] -> o.key)::text is distinct from o.value::text)`

var layouts = []layout{
	{table: "watched", what: "as it is"},
	{table: "logged", what: "as it is, without a look at the gate", pairs: []string{announced, ""}},
	{table: "plain", what: "into one slot, without the ring", pairs: []string{announced, "", "notifyql.change as c (", "notifyql.change_0 as c (slot, ", "values (TG_ARGV", "values (0, TG_ARGV"}},
	{table: "unset", what: "without SET search_path", foreign: true, pairs: []string{announced, "", " SET search_path TO 'pg_catalog', 'pg_temp'\n", "", "= TG_ARGV[6]", "is not null"}},
	{table: "direct", what: "converted as the owner", foreign: true, pairs: []string{announced, "", "notifyql.image_pair(new, old)", "array[row_to_json(new), row_to_json(old)]"}},
	{table: "changed", what: "of the old image the columns that changed", foreign: true, pairs: []string{announced, "", "images[2])", changedOnly + ")"}},
	{table: "without", what: "without the old image", foreign: true, pairs: []string{announced, "", "images[2])", "null)"}},
	{table: "unguarded", what: "without an EXCEPTION block", foreign: true, pairs: []string{announced, "", "exception when others or assert_failure then\n    images := null;", ""}},
}

// apply changes capture.
func (l *layout) apply(ctx context.Context, conn *pgx.Conn) error {
	var body string
	if err := conn.QueryRow(ctx, `select pg_get_functiondef('notifyql.capture'::regproc)`).Scan(&body); err != nil {
		return err
	}
	for i := 0; i < len(l.pairs); i += 2 {
		if !strings.Contains(body, l.pairs[i]) {
			return fmt.Errorf("capture no longer contains %q", l.pairs[i])
		}
		body = strings.ReplaceAll(body, l.pairs[i], l.pairs[i+1])
	}
	_, err := conn.Exec(ctx, body)
	return err
}

// capture measures the trigger alone, with no server and no listener: what it costs single-row transactions and one statement
// that updates 20,000 rows, in turns on a table without a trigger, one with a naive pg_notify trigger, and watched ones in
// the layouts; and what a change adds to the log and to the WAL.
func capture(ctx context.Context, seconds int) error {
	tables := []string{"unwatched", "naive"}
	of := map[string]*layout{}
	for i := range layouts {
		l := &layouts[i]
		of[l.table] = l
		tables = append(tables, l.table)
		note := ""
		if l.foreign {
			note = " (for comparison: it breaks a promise)"
		}
		fmt.Printf("%s: %s%s\n", l.table, l.what, note)
	}
	databases := map[string]*pgx.Conn{}
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return err
	}
	defer db.Stop() //nolint:errcheck // the measurement counts
	for _, name := range tables {
		if err := db.CreateDatabase(ctx, name, ""); err != nil {
			return err
		}
		if err := migrate.Up(ctx, db.URL(name)); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, db.URL(name))
		if err != nil {
			return err
		}
		defer conn.Close(ctx) //nolint:errcheck // likewise
		databases[name] = conn
		setup := strings.Split(fmt.Sprintf(captureTable, name), ";")
		switch {
		case name == "naive":
			setup = append(setup, `create function naive_notify() returns trigger language plpgsql as $$ begin perform pg_notify('naive', row_to_json(new)::text); return null; end $$`,
				`create trigger naive after insert or update or delete on naive for each row execute function naive_notify()`)
		case of[name] != nil:
			setup = append(setup, `select notifyql.watch('`+name+`')`)
		}
		for _, sql := range setup {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		if l := of[name]; l != nil {
			if err := l.apply(ctx, conn); err != nil {
				return err
			}
		}
	}

	fmt.Println("single-row updates a second, with no server; of the unwatched rate in brackets")
	if err := rates(ctx, seconds, tables, "\\set id random(1, 10000)\nupdate %table% set n = n + 1, at = now() where id = :id;\n", []int{1, 8, 32}, db.URL); err != nil {
		return err
	}
	fmt.Println("one update of 20,000 rows; times the unwatched in brackets")
	if err := bulk(ctx, tables, databases); err != nil {
		return err
	}
	for _, l := range []string{"logged", "changed", "without"} {
		if err := weight(ctx, databases["unwatched"], databases[l], l); err != nil {
			return err
		}
	}
	return nil
}

func bulk(ctx context.Context, tables []string, databases map[string]*pgx.Conn) error {
	took := map[string][]float64{}
	for range 5 {
		for _, table := range tables {
			for _, sql := range []string{`truncate notifyql.change`, `vacuum full ` + table, `checkpoint`} {
				if _, err := databases[table].Exec(ctx, sql); err != nil {
					return err
				}
			}
			began := time.Now()
			if _, err := databases[table].Exec(ctx, `update `+table+` set amount = amount + 1, status = 'paid'`); err != nil {
				return err
			}
			took[table] = append(took[table], time.Since(began).Seconds()*1000)
		}
	}
	for _, table := range tables {
		fmt.Printf("   %s %.0f ms (%.2f)", table, median(took[table]), median(took[table])/median(took["unwatched"]))
	}
	fmt.Println()
	return nil
}

// weight tells what a change of one row adds to the log and to the WAL.
func weight(ctx context.Context, unwatched, logged *pgx.Conn, table string) error {
	const rows = 20000
	wal := func(conn *pgx.Conn, table string) (bytes float64, err error) {
		var from string
		for _, sql := range []string{`truncate notifyql.change`, `vacuum full ` + table, `checkpoint`} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return 0, err
			}
		}
		if err := conn.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&from); err != nil {
			return 0, err
		}
		if _, err := conn.Exec(ctx, `update `+table+` set amount = amount + 1`); err != nil {
			return 0, err
		}
		err = conn.QueryRow(ctx, `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::float8`, from).Scan(&bytes)
		return bytes / rows, err
	}
	bare, err := wal(unwatched, "unwatched")
	if err != nil {
		return err
	}
	ours, err := wal(logged, table)
	if err != nil {
		return err
	}
	var log, row float64
	if err := logged.QueryRow(ctx, `select sum(pg_total_relation_size(c.oid))::float8 / $1, (select avg(pg_column_size(t)) from `+table+` t)::float8
		from pg_class c where c.relname ~ '^change_[0-9]$'`, rows).Scan(&log, &row); err != nil {
		return err
	}
	fmt.Printf("%s: bytes an update: of the row %.0f; of WAL %.0f, of that unwatched %.0f; in the log %.0f\n", table, row, ours, bare, log)
	return nil
}
