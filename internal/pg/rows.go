package pg

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/change"
)

const (
	// rowsTimeout bounds the reading of a table's rows, and so how long it holds back vacuum and whoever alters the table.
	rowsTimeout = 5 * time.Minute
	// rowsTries is how often it is begun anew: for want of a tick, or because the table was altered at that moment.
	rowsTries = 4
)

// unreadable is an error that wraps change.ErrUnreadable, and cause if there is one.
func unreadable(cause error, format string, args ...any) error {
	return &explained{text: oneLine(fmt.Sprintf(format, args...)), cause: errors.Join(change.ErrUnreadable, cause)}
}

// Why the reading must begin anew, with another snapshot.
var (
	errAltered  = errors.New("the table was altered at that moment")
	errNoMoment = errors.New("the history has no tick yet that is near enough")
)

// Rows implements subs.History. It waits for its turn, and reads as fast as page takes the rows; ctx bounds it, and ends the query
// in the database too. The error is change.ErrOtherEra if the database has begun another life meanwhile.
func (s *Source) Rows(ctx context.Context, q *change.Query, limit int, page func([]change.Change) error) (change.Cursor, error) {
	h := s.history
	if !q.Quick {
		select {
		case h.rows <- struct{}{}:
			defer func() { <-h.rows }()
		case <-ctx.Done():
			return change.Cursor{}, ctx.Err()
		}
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return change.Cursor{}, err
	}
	defer leave()
	ctx, cancel := context.WithTimeoutCause(ctx, h.rowsTime, unreadable(nil, "reading the rows of table %d took longer than %v", q.Watch, h.rowsTime))
	defer cancel()
	pages := rowPages{limit: min(max(limit, 1), maxPage), page: page}
	for range rowsTries {
		var cursor change.Cursor
		if cursor, err = h.readRows(ctx, q, &pages); err == nil {
			return cursor, nil
		}
		if !errors.Is(err, errAltered) && !errors.Is(err, errNoMoment) {
			break
		}
	}
	var own *pageError
	switch {
	case errors.As(err, &own):
		return change.Cursor{}, own.error
	case errors.Is(context.Cause(ctx), change.ErrUnreadable):
		return change.Cursor{}, context.Cause(ctx)
	case errors.Is(err, change.ErrUnreadable), errors.Is(err, change.ErrOtherEra):
		return change.Cursor{}, err
	case errors.Is(err, errAltered): // each time: it has not what is asked for
		return change.Cursor{}, unreadable(err, "reading the rows of table %d: %v", q.Watch, err)
	}
	return change.Cursor{}, fmt.Errorf("reading the rows of table %d: %w", q.Watch, explain(err, h.pool.Config().ConnConfig))
}

// pageError is an error of the function that takes the pages.
type pageError struct{ error }

// readRows is one try of Rows. Pages are handed on only by one that is not begun anew.
func (h *history) readRows(ctx context.Context, q *change.Query, pages *rowPages) (change.Cursor, error) {
	conn, err := h.pool.Acquire(ctx)
	if err != nil {
		return change.Cursor{}, err
	}
	r := rowsReader{conn: conn.Conn(), time: h.rowsTime}
	err = r.read(ctx, q, pages)
	r.end(ctx)
	conn.Release()
	if err != nil {
		return change.Cursor{}, err
	}
	cursor := r.moment.cursor()
	var era *int64
	if err := h.pool.QueryRow(ctx, "select notifyql.era()").Scan(&era); err != nil {
		return change.Cursor{}, err
	}
	if era == nil || change.Era(*era) != cursor.Era {
		return change.Cursor{}, change.ErrOtherEra
	}
	return cursor, nil
}

// rowsReader reads a table's rows in one transaction.
type rowsReader struct {
	conn   *pgx.Conn
	moment rowsMoment
	table  rowTable
	member *rowTable     // nil: the query has no Among
	time   time.Duration // for a statement
	ran    bool          // users' code
}

// rowsSettings begin the transaction's snapshot. Names are those of Postgres, and values look as they do in images. A policy that would
// hide rows is an error.
const rowsSettings = `
	select pg_catalog.set_config(s.name, s.value, true)
	from (values ('search_path', 'pg_catalog, pg_temp'), ('row_security', 'off'), ('jit', 'off'),
	             ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'), ('bytea_output', 'hex'),
	             ('extra_float_digits', '1'), ('lc_monetary', 'C'), ('quote_all_identifiers', 'off'),
	             ('lock_timeout', '10s'), ('statement_timeout', $1::text), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0')) s (name, value)
	where s.name <> 'transaction_timeout' or pg_catalog.current_setting('server_version_num')::integer >= 170000`

func (r *rowsReader) read(ctx context.Context, q *change.Query, pages *rowPages) error {
	if err := r.begin(ctx, q); err != nil {
		return err
	}
	if !r.moment.fit() {
		r.end(ctx)
		if err := enterHistory(ctx, r.conn, r.moment.tick); err != nil {
			return err
		}
		return errNoMoment
	}
	query, none, err := r.table.query(q, r.member)
	if err != nil || none {
		return err
	}
	if err := r.hold(ctx, &r.table); err != nil {
		return r.table.explain(err)
	}
	if r.member != nil {
		if err := r.hold(ctx, r.member); err != nil {
			return r.member.explain(err)
		}
	}
	if err := r.stream(ctx, &query, pages, q); err != nil {
		return r.table.explain(err)
	}
	return pages.flush()
}

// begin begins the transaction, and finds what its snapshot knows of the history and of the table.
func (r *rowsReader) begin(ctx context.Context, q *change.Query) error {
	var batch pgx.Batch
	batch.Queue(beginTransaction)
	batch.Queue(rowsSettings, strconv.FormatInt(r.time.Milliseconds(), 10))
	r.moment.queue(&batch)
	r.table.queue(&batch, q.Watch)
	if q.Among != nil {
		r.member = new(rowTable)
		r.member.queue(&batch, q.Among.Watch)
	}
	if err := r.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if r.moment.standby {
		return errStandby
	}
	if r.moment.tick == nil {
		return nil
	}
	return r.moment.readMarks(ctx, r.conn)
}

// tableIsSame looks, with the table locked, whether it is still the one that the snapshot knows: its name and its columns' names,
// whatever the snapshot, lead to it; and its rows were not written anew, since then an older snapshot does not see them.
const tableIsSame = `
	select coalesce(to_regclass($2)::oid = $1, false)
	   and not exists (select from unnest($3::int2[], $4::text[]) c (number, name)
	                    where (pg_identify_object_as_address('pg_class'::regclass, $1::oid, c.number)).object_names[3] is distinct from c.name)
	   and not exists (select from (select $1::oid as oid union select relid from pg_partition_tree($1::oid::regclass)) t
	                     join pg_class c using (oid) where c.relkind = 'r' and c.relfilenode <> pg_relation_filenode(c.oid))`

// hold locks a table, and the one that leads to its rows' tenants: nobody alters them until the transaction ends.
func (r *rowsReader) hold(ctx context.Context, t *rowTable) error {
	numbers, names := make([]int16, len(t.columns)), make([]string, len(t.columns))
	for i, c := range t.columns {
		numbers[i], names[i] = c.number, c.name
	}
	altered := false
	var batch pgx.Batch
	lock := func(from string, oid uint32, name string, numbers []int16, names []string) {
		batch.Queue("select from " + from + " limit 0")
		batch.Queue(tableIsSame, oid, name, numbers, names).QueryRow(func(row pgx.Row) error {
			var same bool
			err := row.Scan(&same)
			altered = altered || !same
			return err
		})
	}
	lock(t.from(), t.oid, t.quoted(), numbers, names)
	if v := t.via; v != nil {
		lock(only(v.quoted(), v.partitioned), v.oid, v.quoted(), []int16{v.keyNumber, v.tenantNumber}, []string{v.key, t.tenant})
	}
	if err := r.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if altered {
		return errAltered
	}
	return nil
}

// stream reads the query's rows as they come.
func (r *rowsReader) stream(ctx context.Context, query *rowsQuery, pages *rowPages, q *change.Query) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.ran = r.table.foreign()
	images := newImageMaker(r.table.columns)
	rows := r.conn.PgConn().ExecParams(ctx, query.sql, query.values, query.types, nil, nil)
	for rows.NextRow() {
		c := change.Change{Op: change.Insert, Topic: change.Topic{Watch: q.Watch}, Shared: r.table.shared}
		values := rows.Values()
		c.Tenant = query.tenant(values)
		if c.Unserializable = query.tooLarge(values); !c.Unserializable {
			var ok bool
			c.New, ok = images.image(values)
			c.Unserializable = !ok
		}
		if err := pages.add(c); err != nil {
			cancel() // the rest is not read to its end
			_, _ = rows.Close()
			return &pageError{err}
		}
	}
	_, err := rows.Close()
	return err
}

// end ends the transaction, and whatever it has set. Where users' code has run in the session, even as a role without rights, it may have left
// something behind (a prepared statement by the name of ours), so the session ends as well.
func (r *rowsReader) end(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	switch {
	case r.conn.IsClosed():
	case r.ran:
		closeConn(r.conn)
	case r.conn.PgConn().TxStatus() != 'I':
		ctx, cancel := context.WithTimeout(ctx, smallTimeout)
		defer cancel()
		if _, err := r.conn.Exec(ctx, "rollback"); err != nil {
			closeConn(r.conn)
		}
	}
}

// explain says of an error of the table's reading whether it is final.
func (t *rowTable) explain(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Code == pgerrcode.InsufficientPrivilege:
		return unreadable(err, "the server's login may not read %s (%s): have its owner call notifyql.watch again, with the settings that it has", t.quoted(), e.Message)
	case e.Code == pgerrcode.UndefinedTable, e.Code == pgerrcode.UndefinedColumn, e.Code == pgerrcode.InvalidSchemaName:
		return fmt.Errorf("%w: %s", errAltered, e.Message) // since the snapshot, or since the query was made
	case e.Code == pgerrcode.QueryCanceled, pgerrcode.IsProgramLimitExceeded(e.Code), pgerrcode.IsDataException(e.Code), pgerrcode.IsSyntaxErrororAccessRuleViolation(e.Code):
		return unreadable(err, "reading the rows of %s: %s", t.quoted(), e.Message)
	}
	return err
}
