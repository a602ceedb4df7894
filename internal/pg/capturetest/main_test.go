package capturetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

func TestMain(m *testing.M) { pgtest.Main(m, migrate.Up) }

// note is one notification: the elements of its array.
type note []any

func (n note) kind() string { return n[1].(string) }

// ear hears the notifications of a database, in which it makes writers notify: it holds the gate, as a leader does.
type ear struct {
	conn    *pgx.Conn
	channel string
	said    int
}

func listen(t testing.TB, db *pgtest.DB) *ear {
	t.Helper()
	e := &ear{conn: db.Conn(t, "postgres"), channel: one[string](t, db, `select channel from notifyql.secret`)}
	if _, err := e.conn.Exec(t.Context(), `select pg_advisory_lock(gate) from notifyql.mode; listen `+pgx.Identifier{e.channel}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return e
}

// hear returns what was committed since the last call. It sends a word of its own and reads up to it: notifications
// arrive in the order of the commits.
func (e *ear) hear(t testing.TB) []note {
	t.Helper()
	e.said++
	word := fmt.Sprintf("word %d", e.said)
	if _, err := e.conn.Exec(t.Context(), `select pg_notify($1, $2)`, e.channel, word); err != nil {
		t.Fatal(err)
	}
	var heard []note
	for {
		n, err := e.conn.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == word {
			return heard
		}
		if len(n.Payload) > 7999 {
			t.Errorf("a payload of %d bytes", len(n.Payload))
		}
		var one note
		decode(t, n.Payload, &one)
		heard = append(heard, one)
	}
}

// text gives notes as lines: a change as its op and seq, the rest whole but for the xid.
func text(notes []note) string {
	var b strings.Builder
	for _, n := range notes {
		switch n.kind() {
		case "M":
			fmt.Fprintf(&b, "M %v %v %v\n", n[3], n[4], n[5])
		case "W", "B", "Q":
			fmt.Fprintf(&b, "%s %v\n", n[1], n[2])
		default:
			fmt.Fprintf(&b, "%s %v\n", n[1], n[3])
		}
	}
	return b.String()
}

func one[T any](t testing.TB, db *pgtest.DB, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.Pool(t).QueryRow(context.WithoutCancel(t.Context()), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// lines gives the first column of a query's rows as lines.
func lines(t testing.TB, db *pgtest.DB, sql string, args ...any) string {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(found, "\n")
}

// logged gives the log as lines: op, flags, tenants, images.
const logged = `select format('%s %s %s>%s %s>%s', op, flags, coalesce(old_tenant, ''), coalesce(tenant, ''), coalesce(old::text, ''),
	coalesce(new::text, '')) from notifyql.change order by seq`

func want(t testing.TB, got, want string) {
	t.Helper()
	if got, want := strings.TrimSpace(got), strings.TrimSpace(dedent(want)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func dedent(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// role returns the name of one of the database's roles: owner, watch, image, tenant or server.
func role(t testing.TB, db *pgtest.DB, kind string) string {
	t.Helper()
	return one[string](t, db, `select left(pg_get_userbyid(nspowner), -length('owner')) || $1::text from pg_namespace where nspname = 'notifyql'`, kind)
}

func decode(t testing.TB, text string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}

// decodeLoose reads an object whatever escapes are in it.
func decodeLoose(text string, into *map[string]any) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	d.Decode(into) //nolint:errcheck // what it could read is compared
}
