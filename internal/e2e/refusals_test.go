package e2e

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// What can't be watched is refused in one line that says why, or what to do.
func TestWhatCannotBeWatched(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	stranger := db.Role(t, "")
	db.Exec(t, `
		create table plain (id int, tenant_id text);
		create table untenanted (id int);
		create table several (id int, tenant_id int[]);
		create table secured (id int, tenant_id text);
		alter table secured enable row level security;
		create table parent (id int, tenant_id text);
		create table child () inherits (parent);
		create table root (id int, tenant_id text) partition by range (id);
		create table leaf partition of root for values from (0) to (10);
		create view seen as select * from plain;
		create unlogged table fleeting (id int, tenant_id text);
		select notifyql.watch('root');`)
	for name, c := range map[string]struct {
		args []string
		want []string // nil: it is not refused
	}{
		"unknown table":           {[]string{"nothing"}, []string{"nothing", "does not exist"}},
		"no tenant column":        {[]string{"untenanted"}, []string{"tenant_id", "shared"}},
		"another column":          {[]string{"plain", "--tenant", "owner"}, []string{"owner"}},
		"a tenant that is a list": {[]string{"several"}, []string{"tenant_id", "type"}},
		"row level security":      {[]string{"secured"}, []string{"row level security", "ignore_rls"}},
		"a parent":                {[]string{"parent"}, []string{"inherit"}},
		"a child":                 {[]string{"child"}, []string{"inherit"}},
		"a leaf of a watched":     {[]string{"leaf"}, []string{"partition"}},
		"a view":                  {[]string{"seen"}, []string{"view"}},
		"a catalog":               {[]string{"pg_catalog.pg_class"}, []string{"pg_class"}},
		"unknown exclusion":       {[]string{"plain", "--exclude", "colour"}, []string{"colour"}},
		"the tenant excluded":     {[]string{"plain", "--exclude", "tenant_id"}, []string{"tenant"}},
		"twice":                   {[]string{"root"}, nil},
		"acknowledged":            {[]string{"secured", "--ignore-rls"}, nil},
		"shared":                  {[]string{"untenanted", "--shared"}, nil},
	} {
		out, err := run(t, db.URL, append([]string{"watch"}, c.args...)...)
		if (err != nil) != (c.want != nil) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		for _, w := range c.want {
			if !strings.Contains(strings.ToLower(out), w) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: it says %q, want %q in one line", name, out, w)
			}
		}
	}
	if out, err := run(t, db.URLAs(stranger), "watch", "plain"); err == nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "permission denied") {
		t.Errorf("a stranger: %v: %s", err, out)
	}
}
