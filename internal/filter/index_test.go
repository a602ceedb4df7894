package filter

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Equality, which is what keys and foreign keys are asked for by, is answered by an ordinary index of the column.
func TestEqualityIsAnIndexCondition(t *testing.T) {
	db := pgtest.Bare(t)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err, sql)
		}
	}
	exec("set enable_seqscan = off")
	condition := regexp.MustCompile(`Index Cond: \(\(?k\)?(::\w+)? = `)
	for _, k := range []struct{ typ, value, another string }{
		{"int2", "1", "2"},
		{"int4", "1", "2"},
		{"int8", "1", "2"},
		{"text", "a", "b"},
		{"varchar", "a", "b"},
		{"name", "a", "b"},
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"numeric", "1.5", "2.5"},
		{"date", "2024-02-29", "2024-03-01"},
		{"timestamptz", "2024-02-29T12:00:00Z", "2024-03-01T12:00:00Z"},
		{"bytea", `\x00`, `\x01`},
		{"float8", "1", "2"},
	} {
		exec(fmt.Sprintf("drop table if exists t; create table t (k %s primary key)", k.typ))
		c := NewColumn("k", 0, builtin(k.typ))
		v, err := c.ParseValue(k.value)
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.ParseValue(k.another)
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]*Predicate{"eq": Compare(c, Eq, v), "in": In(c, []Value{v, w}), "in an or": Or(And(Compare(c, Eq, v)), IsNull(c))} {
			where, args := p.SQL(nil)
			rows, err := conn.Query(t.Context(), "explain select * from t where "+where, args...)
			if err != nil {
				t.Fatal(err, where)
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err, where)
			}
			if text := strings.Join(plan, "\n"); !condition.MatchString(text) {
				t.Errorf("%s, %s: %s\n%s", k.typ, name, where, text)
			}
		}
	}
}
