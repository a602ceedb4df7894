package pg

import (
	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// memberAlias is the name of the member table in a query of rows.
const memberAlias = `"notifyql members"`

// queue asks for what a snapshot knows of a watched table.
func (t *rowTable) queue(batch *pgx.Batch, watch change.WatchID) {
	batch.Queue(selectTable, int32(watch)).Query(func(rows pgx.Rows) (err error) {
		*t, err = scanTable(rows, watch)
		return err
	})
	batch.Queue(selectColumns, int32(watch)).Query(func(rows pgx.Rows) error { return t.scanColumns(rows) })
}

// among is the condition that a row has a value which one of the tenants' rows of the member table has; empty if none can.
func (t *rowTable) among(rq *rowsQuery, q *change.Query, member *rowTable) (string, error) {
	a := q.Among
	column, key := t.column(a.Column), member.column(a.Key)
	if column == nil || column.as == asNull || key == nil || key.as == asNull {
		return "", unreadable(nil, "%s and %s have not both the columns, %q and %q, that say what may be seen", t.quoted(), member.quoted(), a.Column, a.Key)
	}
	own := rowsAlias + "." + pgx.Identifier{a.Column}.Sanitize()
	theirs := memberAlias + "." + pgx.Identifier{a.Key}.Sanitize()
	condition := "exists (select from " + member.from() + " as " + memberAlias + " where " + theirs + " = " + own
	if column.text || key.text { // a collation may take different texts for equal
		condition += " and " + theirs + `::text collate "C" = ` + own + `::text collate "C"`
	}
	if !member.shared {
		of := rowsQuery{values: rq.values, types: rq.types}
		tenants := member.ofTenants(&of, memberAlias, q.Tenants)
		if tenants == "" {
			return "", nil
		}
		rq.values, rq.types = of.values, of.types
		condition += " and " + tenants
	}
	if a.Where != "" {
		condition += " and (" + a.Where + ")"
	}
	return condition + ")", nil
}
