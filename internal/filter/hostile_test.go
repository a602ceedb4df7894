package filter

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// Asking the table runs nobody's functions: neither a cast from text to an enum, nor the constraint of a domain.
func TestSQLRunsNobodysFunctions(t *testing.T) {
	t.Parallel()
	db := pgtest.Bare(t)
	db.Exec(t, `
		create table ran (what text);
		create type mood as enum ('good', 'bad');
		create function moody(text) returns mood language plpgsql as $$ begin insert into ran values ('cast'); return 'good'; end $$;
		create cast (text as mood) with function moody(text);
		create function fine(int) returns boolean language plpgsql as $$ begin insert into ran values ('check'); return true; end $$;
		create domain number as int check (fine(value));
		create table t (m mood, ms mood[], ns number[]);
		insert into t values ('bad', '{bad,good}', '{1,2}');
		delete from ran`)
	mood := &catalog.Type{Schema: "public", Name: "mood", Kind: catalog.Enum, Labels: []string{"good", "bad"}}
	number := &catalog.Type{Schema: "public", Name: "number", Kind: catalog.Domain, Elem: &catalog.Type{Schema: "pg_catalog", Name: "int4", Kind: catalog.Base}}
	array := func(elem *catalog.Type) *catalog.Type {
		return &catalog.Type{Schema: elem.Schema, Name: "_" + elem.Name, Kind: catalog.Array, Elem: elem}
	}
	value := func(c *Column, text string) Value {
		t.Helper()
		v, err := c.ParseValue(text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	m, ms, ns := NewColumn("m", 0, mood), NewColumn("ms", 1, array(mood)), NewColumn("ns", 2, array(number))
	row := new(change.Row)
	if err := row.Parse([]byte(`{"m":"bad","ms":["bad","good"],"ns":[1,2]}`)); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*Predicate{
		"enum":             In(m, []Value{value(m, "bad")}),
		"array of enums":   Has(ms, value(ms.Elem, "good")),
		"any of enums":     HasAny(ms, []Value{value(ms.Elem, "good")}),
		"array of domains": Has(ns, value(ns.Elem, "2")),
		"all of domains":   HasAll(ns, []Value{value(ns.Elem, "2"), value(ns.Elem, "1")}),
	} {
		sql, args := p.SQL(nil)
		var holds bool
		if err := db.Pool(t).QueryRow(t.Context(), "select "+sql+" from t", args...).Scan(&holds); err != nil || !holds || p.Eval(row) != True {
			t.Errorf("%s: %s: %v, %v", name, sql, holds, err)
		}
	}
	var ran []string
	rows, err := db.Pool(t).Query(t.Context(), "select distinct what from ran")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var what string
		if err := rows.Scan(&what); err != nil {
			t.Fatal(err)
		}
		ran = append(ran, what)
	}
	if len(ran) > 0 {
		t.Errorf("it ran: %s", strings.Join(ran, ", "))
	}
}
