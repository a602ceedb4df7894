package notifyql_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// listening is a subscription whose results are read as text.
type listening struct {
	t      *testing.T
	stream *notifyql.Stream
}

func listen(t *testing.T, srv *notifyql.Server, query string, id notifyql.Identity) *listening {
	t.Helper()
	stream, err := srv.Subscribe(t.Context(), notifyql.Request{Query: query, Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() }) //nolint:errcheck // it has served
	return &listening{t, stream}
}

func (l *listening) next() string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	b, err := l.stream.Next(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

func (l *listening) want(results ...string) {
	l.t.Helper()
	for _, want := range results {
		if got := l.next(); got != want {
			l.t.Fatalf("got  %.300s\nwant %.300s", got, want)
		}
	}
}

func of(tenants ...string) notifyql.Identity { return notifyql.Identity{Tenants: tenants} }

// said is the result of a channel's event.
func said(format string, args ...any) string {
	return `{"data":{"channel":` + fmt.Sprintf(format, args...) + `}}`
}

// Events that are published in a transaction are sent if it commits, in their order, each to its tenant.
func TestPublishInATransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	const chat = `subscription { channel(name: "chat") { type data } }`
	a, b := listen(t, srv, chat, of("a")), listen(t, srv, chat, of("b"))
	say := func(n int) notifyql.Event {
		return notifyql.Event{Channel: "chat", Type: "said", Tenant: "a", Data: n}
	}
	ctx := t.Context()
	inTx := func(end error, f func(tx pgx.Tx)) {
		t.Helper()
		err := pgx.BeginFunc(ctx, db.Pool(t), func(tx pgx.Tx) error {
			f(tx)
			return end
		})
		if err != end {
			t.Fatal(err)
		}
	}
	publish := func(tx notifyql.Execer, events ...notifyql.Event) {
		t.Helper()
		if err := notifyql.PublishTx(ctx, tx, events...); err != nil {
			t.Fatal(err)
		}
	}
	inTx(context.Canceled, func(tx pgx.Tx) { publish(tx, say(-1)) })
	inTx(nil, func(tx pgx.Tx) {
		publish(tx, say(1), notifyql.Event{Channel: "chat", Shared: true, Data: json.RawMessage(`{"n":[1.50]}`)}, say(2))
		inner, err := tx.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		publish(inner, say(-2))
		if err := inner.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		publish(tx)
		publish(tx, notifyql.Event{Channel: "chat", Tenant: "b"}, say(3))
	})
	// Connections and pools, and every way to send a statement that a pooler may force.
	publish(db.Pool(t), say(4), say(5))
	conn := db.Conn(t, "postgres")
	for n, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		publish(&inMode{conn, mode}, say(6+n))
	}
	var batch pgx.Batch
	batch.Queue("select 1")
	for _, events := range [][]notifyql.Event{{say(10), say(11)}, nil} {
		if err := notifyql.QueuePublish(&batch, events...); err != nil {
			t.Fatal(err)
		}
	}
	if notifyql.QueuePublish(&batch, say(12), notifyql.Event{}) == nil || batch.Len() != 2 {
		t.Errorf("%d statements are queued", batch.Len())
	}
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil {
		t.Fatal(err)
	}
	std := stdlib.OpenDBFromPool(db.Pool(t))
	defer std.Close()
	for n, end := range map[int]func(*sql.Tx) error{12: (*sql.Tx).Commit, -12: (*sql.Tx).Rollback} {
		tx, err := std.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if notifyql.PublishSQL(ctx, tx, notifyql.Event{}) == nil || notifyql.PublishSQL(ctx, tx) != nil {
			t.Error("no event is published")
		}
		if err := errors.Join(notifyql.PublishSQL(ctx, tx, say(n)), end(tx)); err != nil {
			t.Fatal(err)
		}
	}

	shared := said(`{"type":"","data":{"n": [1.50]}}`)
	for n := 1; n <= 12; n++ {
		if a.want(said(`{"type":"said","data":%d}`, n)); n == 1 {
			a.want(shared)
		}
	}
	b.want(shared, said(`{"type":"","data":null}`))
}

// inMode sends statements in one of pgx's ways.
type inMode struct {
	*pgx.Conn
	mode pgx.QueryExecMode
}

func (c *inMode) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return c.Conn.Exec(ctx, sql, append([]any{c.mode}, args...)...)
}

// An event belongs to the transaction of the rows that are written with it, and a cursor at either goes on behind it.
func TestPublishBesideRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, items)
	srv := run(t, notifyql.Config{
		DatabaseURL: db.URL,
		Fields: []notifyql.Field{{
			SDL:     `extend type Subscription { orderPlaced(after: Cursor): Placed } type Placed { id: Int! }`,
			Channel: "placed",
		}},
	})
	rows := listen(t, srv, `subscription { itemsChanged { new { id } transaction } }`, of("a"))
	events := listen(t, srv, `subscription { channel(name: "placed") { data transaction } }`, of("a"))
	typed := listen(t, srv, `subscription { orderPlaced { id } }`, of("a"))
	err := pgx.BeginFunc(t.Context(), db.Pool(t), func(tx pgx.Tx) error {
		for id := 1; id <= 3; id++ {
			if _, err := tx.Exec(t.Context(), "insert into items values ($1, 'a')", id); err != nil {
				return err
			}
			if err := notifyql.PublishTx(t.Context(), tx, notifyql.Event{Channel: "placed", Tenant: "a", Data: map[string]int{"id": id}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var xid, cursor string
	for id := 1; id <= 3; id++ {
		var row, event struct {
			Data struct {
				ItemsChanged, Channel struct{ Transaction string }
			}
		}
		text := rows.next()
		if err := json.Unmarshal([]byte(text), &row); err != nil || !strings.Contains(text, fmt.Sprintf(`"id":%d`, id)) {
			t.Fatal(text)
		}
		text = events.next()
		if err := json.Unmarshal([]byte(text), &event); err != nil || !strings.Contains(text, fmt.Sprintf(`"id": %d`, id)) {
			t.Fatal(text)
		}
		if xid == "" {
			xid = row.Data.ItemsChanged.Transaction
		}
		if xid == "" || row.Data.ItemsChanged.Transaction != xid || event.Data.Channel.Transaction != xid {
			t.Errorf("row %+v, event %+v of transaction %s", row, event, xid)
		}
		var placed struct {
			Data       struct{ OrderPlaced struct{ ID int } }
			Extensions struct{ Cursor string }
		}
		if text = typed.next(); json.Unmarshal([]byte(text), &placed) != nil || placed.Data.OrderPlaced.ID != id {
			t.Fatal(text)
		}
		if id == 1 {
			cursor = placed.Extensions.Cursor
		}
	}
	// In the middle of that transaction, and over others' events.
	if err := notifyql.PublishTx(t.Context(), db.Pool(t), notifyql.Event{Channel: "placed", Tenant: "b", Data: map[string]int{"id": -1}}); err != nil {
		t.Fatal(err)
	}
	again := listen(t, srv, `subscription { orderPlaced(after: "`+cursor+`") { id } }`, of("a"))
	for _, want := range []string{`{"id":2}`, `{"id":3}`, `"synced":true`} {
		if got := again.next(); !strings.Contains(got, want) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// Events of any size arrive, within the bound.
func TestPublishLargeEvents(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	srv := run(t, notifyql.Config{DatabaseURL: db.URL})
	a := listen(t, srv, `subscription { channel(name: "c") { data } }`, of("a"))
	sizes := []int{7_000, 8_000, 20_000, 1 << 20, 5 << 20}
	for _, n := range sizes {
		event := notifyql.Event{Channel: "c", Tenant: "a", Data: strings.Repeat("x", n)}
		if err := notifyql.PublishTx(t.Context(), db.Pool(t), event); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range sizes {
		if got := a.next(); len(got) != n+len(said(`{"data":""}`)) {
			t.Fatalf("%d bytes came as %d", n, len(got))
		}
	}
}

// What is wrong with an event is said before anything is sent, so that the transaction goes on.
func TestPublishChecksFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	fine := notifyql.Event{Channel: "c", Tenant: "a"}
	for want, e := range map[string]notifyql.Event{
		"no channel":                   {Tenant: "a"},
		"more than 255":                {Channel: strings.Repeat("c", 256), Tenant: "a"},
		"type has more":                {Channel: "c", Tenant: "a", Type: strings.Repeat("t", 256)},
		"no tenant":                    {Channel: "c"},
		"is shared":                    {Channel: "c", Tenant: "a", Shared: true},
		"field Tenant of the event is": {Channel: "c", Tenant: "a\x00"},
		"field Channel of the event":   {Channel: "\xff", Tenant: "a"},
		"is not JSON":                  {Channel: "c", Tenant: "a", Data: json.RawMessage(`{"a":`)},
		`\u0000`:                       {Channel: "c", Tenant: "a", Data: "a\x00b"},
		"surrogate":                    {Channel: "c", Tenant: "a", Data: json.RawMessage(`["\ud800"]`)},
		"digits":                       {Channel: "c", Tenant: "a", Data: json.RawMessage(`1e999999`)},
		"nested":                       {Channel: "c", Tenant: "a", Data: json.RawMessage(strings.Repeat("[", 2000) + strings.Repeat("]", 2000))},
		"more than 16777216":           {Channel: "c", Tenant: "a", Data: strings.Repeat("x", 16<<20)},
		"all digits of its numbers":    {Channel: "c", Tenant: "a", Data: json.RawMessage("[1" + strings.Repeat(",1e131000", 10_000) + "]")},
		"event 2 of 3: Event.Data is":  {Channel: "c", Tenant: "a", Data: make(chan int)},
	} {
		if err := notifyql.PublishTx(t.Context(), tx, fine, e, fine); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "event 2 of 3") {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	small := notifyql.Event{Channel: "c", Tenant: "a", Data: json.RawMessage("[1" + strings.Repeat(",1", 8<<20-10) + "]")}
	for want, events := range map[string][]notifyql.Event{
		"4 events have more than":      {small, small, small, small},
		"600000 events have more than": slices.Repeat([]notifyql.Event{fine}, 600_000),
	} {
		if err := notifyql.PublishTx(t.Context(), tx, events...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	if err := notifyql.PublishTx(t.Context(), tx, fine); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	var n int
	if err := db.Pool(t).QueryRow(t.Context(), "select count(*) from notifyql.change").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d events are logged: %v", n, err)
	}
	// Who may not publish is told so.
	err = notifyql.PublishTx(t.Context(), db.Conn(t, db.Role(t, "")), fine)
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a stranger: %v", err)
	}
}
