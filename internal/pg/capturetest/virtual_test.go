package capturetest

import (
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A trigger sees no value of a virtual generated column. It is left out, with a warning, and says nobody's tenant.
func TestVirtualGeneratedColumnsAreSaidToBeLeftOut(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if one[int](t, db, `select current_setting('server_version_num')::integer / 10000`) < 18 { // the first that has them
		db = pgtest.NewOn(t, pgtest.Server(t, localpg.Options{Version: "18"}))
	}
	db.Exec(t, `create table t (id int primary key, tenant_id text, twice int generated always as (id * 2) virtual, org text generated always as (lower(tenant_id)) virtual)`)
	if got := try(t, db, `select notifyql.watch('t', 'org')`); !strings.Contains(got, "its tenant column org is a virtual generated column, whose value no trigger sees | Make it a stored one") {
		t.Error(got)
	}
	watch := `select notifyql.watch('t', exclude => '{org}')`
	if got := hearNotices(t, db, "postgres", watch); len(got) != 1 || got[0] != "watching public.t: left out is twice, as a virtual generated column, whose value no trigger sees" {
		t.Errorf("%q", got)
	}
	db.Exec(t, `insert into t values (1, 'A'); update t set id = 2; delete from t`)
	if got := lines(t, db, `select concat(old, new) from notifyql.change`); strings.Count(got, "tenant_id") != 4 || strings.Contains(got, "org") || strings.Contains(got, `"twice":2`) {
		t.Error(got)
	}
}
