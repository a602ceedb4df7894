package pg

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// Verification says what Verify compares.
type Verification struct {
	Tables  []string      // as SQL has their names; none: all that are watched
	For     time.Duration // between the two images of a table
	Timeout time.Duration // of reading one; zero: an hour
	Keys    int           // that a table's report names at most; zero: 20

	pause func(context.Context) error // in place of For
}

// Verified is what came of a table.
type Verified struct {
	Table       string       `json:"table"`
	Rows        int64        `json:"rows"`    // in the end
	Changes     int64        `json:"changes"` // that the log has in between
	Differences []Difference `json:"differences,omitempty"`
	More        bool         `json:"more,omitempty"`    // there are others
	Problem     string       `json:"problem,omitempty"` // why it can't be told
}

// OK reports whether what the log has in between made the table what it is.
func (v *Verified) OK() bool { return len(v.Differences) == 0 && v.Problem == "" }

// Difference is a row that is not what the log makes of it.
type Difference struct {
	// Kind is "missing", of a row that is there, and the log does not have it; "extra", of one that the log leaves there, and it is gone;
	// or "different".
	Kind string `json:"kind"`
	// Key is the row's primary key as a JSON object; the whole row, where the table has none that is seen.
	Key string `json:"key"`
}

const (
	verifyBuckets = 1 << 14 // that rows are counted in, by their keys: 256 KB a table
	verifyLooked  = 64      // of them that are looked into, where they differ
	verifyKeys    = 1 << 20 // that are kept in doing so
)

// Verify proves of tables that the log between two moments makes of each table's rows at the first what SELECT finds at the second, while
// others write. It holds the lock of a SELECT on each table, and on the log, until it returns: who alters them waits. The error is of all;
// what keeps a table from being compared is its Problem.
//
// What it keeps of a table does not depend on its size: of the rows in a bucket, a sum of their hashes. An insert adds the new image's, a
// delete takes the old one's away, an update does both, whatever their order. Only buckets that differ are read once more, for the keys.
func Verify(ctx context.Context, databaseURL string, o Verification) ([]Verified, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Hour
	}
	if o.Keys == 0 {
		o.Keys = 20
	}
	if o.pause == nil {
		o.pause = func(ctx context.Context) error {
			pause(ctx, o.For)
			return ctx.Err()
		}
	}
	config, err := directConfig(Config{DatabaseURL: databaseURL}, poolName)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	v := verifier{o: o, seed: maphash.MakeSeed()}
	for _, r := range []*rowsReader{&v.first, &v.second} {
		if r.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
			return nil, explain(err, config)
		}
		defer closeConn(r.conn)
		r.time = o.Timeout
	}
	if err := v.run(ctx); err != nil {
		return nil, explain(err, config)
	}
	reports := make([]Verified, len(v.tables))
	for i, t := range v.tables {
		reports[i] = t.report
	}
	return reports, nil
}

// verifier reads the first image in one session's transaction, and the second, with the log, in another's. Both stay open to the end.
type verifier struct {
	o             Verification
	seed          maphash.Seed
	first, second rowsReader
	before        string // the first snapshot
	xmin          uint64 // of it
	tables        []*verifiedTable
}

// verifiedTable is what is known of a table so far.
type verifiedTable struct {
	watch  change.WatchID
	table  rowTable
	report Verified
	made   []tally // of each bucket, what the log makes
	found  []tally // and what is there
	look   map[int]bool
	keys   map[string]*verifiedKey // in buckets to be looked into
}

// tally is a number of rows, and the sum of their hashes.
type tally struct {
	rows int64
	sum  uint64
}

func (t *tally) add(hash uint64)  { t.rows++; t.sum += hash }
func (t *tally) take(hash uint64) { t.rows--; t.sum -= hash }

type verifiedKey struct{ made, found tally }

func (v *verifier) run(ctx context.Context) error {
	var err error
	for range rowsTries {
		if err = v.begin(ctx); !errors.Is(err, errAltered) {
			break
		}
		v.first.end(ctx)
	}
	if err != nil {
		return err
	}
	if err := v.o.pause(ctx); err != nil {
		return err
	}
	if err := v.beginSecond(ctx); err != nil {
		return err
	}
	if err := v.compare(ctx, func(t *verifiedTable, bucket int, _ string) (made, found *tally) {
		return &t.made[bucket], &t.found[bucket]
	}); err != nil {
		return err
	}
	again := false
	for _, t := range v.tables {
		again = t.choose() || again
	}
	if !again {
		return nil
	}
	err = v.compare(ctx, func(t *verifiedTable, bucket int, key string) (made, found *tally) {
		if !t.look[bucket] {
			return nil, nil
		}
		k := t.keys[key]
		if k == nil {
			if len(t.keys) == verifyKeys {
				t.report.More = true
				return nil, nil
			}
			k = new(verifiedKey)
			t.keys[key] = k
		}
		return &k.made, &k.found
	})
	for _, t := range v.tables {
		t.explain(v.o.Keys)
	}
	return err
}

// begin takes the first snapshot, and holds the tables as they are in it.
func (v *verifier) begin(ctx context.Context) error {
	r := &v.first
	var batch pgx.Batch
	beginHolding(&batch)
	batch.Queue(rowsSettings, strconv.FormatInt(r.time.Milliseconds(), 10))
	batch.Queue("select pg_current_snapshot()::text, pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_is_in_recovery()").QueryRow(func(row pgx.Row) error {
		var standby bool
		err := row.Scan(&v.before, &v.xmin, &standby)
		if err == nil && standby {
			err = errStandby
		}
		return err
	})
	v.tables = nil
	batch.Queue("select w.id, w.rel::text from notifyql.watch w where w.confirmed and w.rel = w.rel_oid order by w.id").Query(func(rows pgx.Rows) error {
		var id int32
		var name string
		_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			v.tables = append(v.tables, &verifiedTable{watch: change.WatchID(id), report: Verified{Table: name}})
			return nil
		})
		return err
	})
	if err := r.conn.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if err := v.pick(ctx); err != nil {
		return err
	}
	for _, t := range v.tables {
		var batch pgx.Batch
		t.table.queue(&batch, t.watch)
		err := r.conn.SendBatch(ctx, &batch).Close()
		if err == nil {
			err = r.hold(ctx, &t.table)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.report.Table, t.table.explain(err))
		}
		t.report.Table = t.table.quoted()
		t.table.shared, t.table.tenant = true, "" // all tenants' rows are compared
		t.made, t.found = make([]tally, verifyBuckets), make([]tally, verifyBuckets)
	}
	return nil
}

// pick leaves the tables that were named.
func (v *verifier) pick(ctx context.Context) error {
	if len(v.o.Tables) == 0 {
		return nil
	}
	all := v.tables
	v.tables = nil
	for _, name := range v.o.Tables {
		var id int32
		// to_regclass goes by the login's search_path, which the settings have replaced.
		err := v.second.conn.QueryRow(ctx, "select coalesce((select w.id from notifyql.watch w where w.rel = pg_catalog.to_regclass($1)), 0)", name).Scan(&id)
		if err != nil {
			return err
		}
		n := len(v.tables)
		for _, t := range all {
			if t.watch == change.WatchID(id) {
				v.tables = append(v.tables, t)
			}
		}
		if len(v.tables) == n {
			return unreadable(nil, "%s is not watched", name)
		}
	}
	return nil
}

func (v *verifier) beginSecond(ctx context.Context) error {
	var batch pgx.Batch
	batch.Queue(beginTransaction)
	batch.Queue(rowsSettings, strconv.FormatInt(v.second.time.Milliseconds(), 10))
	return v.second.conn.SendBatch(ctx, &batch).Close()
}

// compare reads the log in between and both images of each table. into is where a row with this key is counted: as the log makes it, and
// as it is.
func (v *verifier) compare(ctx context.Context, into func(t *verifiedTable, bucket int, key string) (made, found *tally)) error {
	for _, t := range v.tables {
		t.report.Rows, t.report.Changes = 0, 0
	}
	if err := v.replay(ctx, into); err != nil {
		return err
	}
	for _, t := range v.tables {
		if t.report.Problem != "" {
			continue
		}
		c := newComparer(&t.table)
		count := func(image []byte, is bool) error {
			key, image, err := c.compare(image)
			if err != nil {
				return err
			}
			made, found := into(t, v.bucket(key), key)
			switch {
			case is:
				t.report.Rows++
				if found != nil {
					found.add(v.hash(image))
				}
			case made != nil:
				made.add(v.hash(image))
			}
			return nil
		}
		for _, read := range []struct {
			*rowsReader
			second bool
		}{{&v.first, false}, {&v.second, true}} {
			if err := read.images(ctx, t, func(image []byte) error { return count(image, read.second) }); err != nil {
				return fmt.Errorf("reading %s: %w", t.report.Table, t.table.explain(err))
			}
		}
	}
	return nil
}

func (v *verifier) hash(image []byte) uint64 { return maphash.Bytes(v.seed, image) }

func (v *verifier) bucket(key string) int {
	return int(maphash.String(v.seed, key) % verifyBuckets)
}

// between reads what the second snapshot sees of the log and the first does not.
const between = `
	select c.watch, c.op::text, c.flags, c.old, c.new
	from notifyql.change c
	where c.xid >= $1::xid8 and not pg_visible_in_snapshot(c.xid, $2::pg_snapshot) and pg_visible_in_snapshot(c.xid, pg_current_snapshot()) and c.watch <> 0`

// replay counts what the log takes and adds.
func (v *verifier) replay(ctx context.Context, into func(t *verifiedTable, bucket int, key string) (made, found *tally)) error {
	type watched struct {
		*verifiedTable
		*comparer
	}
	tables := map[string]watched{}
	for _, t := range v.tables {
		tables[strconv.Itoa(int(t.watch))] = watched{t, newComparer(&t.table)}
	}
	rows := v.second.conn.PgConn().ExecParams(ctx, between, [][]byte{strconv.AppendUint(nil, v.xmin, 10), []byte(v.before)}, nil, nil, nil)
	var failed error
	for rows.NextRow() {
		values := rows.Values()
		t, ok := tables[string(values[0])]
		if !ok || failed != nil {
			continue
		}
		t.report.Changes++
		flags, err := strconv.Atoi(string(values[2]))
		switch {
		case err != nil:
			failed = err
			continue
		case flags&flagUnserializable != 0:
			t.report.Problem = "a change of it in the log has no image, since the row could not be converted"
			continue
		case string(values[1]) == "T": // of a transaction that had the table before us, and began after our snapshot
			t.report.Problem = "it was truncated at that moment; verify again"
			continue
		}
		for i, image := range values[3:] {
			if image == nil {
				continue
			}
			key, image, err := t.comparer.compare(image)
			if err != nil {
				failed = err
				break
			}
			made, _ := into(t.verifiedTable, v.bucket(key), key)
			switch {
			case made == nil:
			case i == 0:
				made.take(v.hash(image))
			default:
				made.add(v.hash(image))
			}
		}
	}
	if _, err := rows.Close(); err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	return failed
}

// images hands on the images of a table's rows, one after the other; each is valid until the next.
func (r *rowsReader) images(ctx context.Context, t *verifiedTable, do func(image []byte) error) error {
	query, _, err := t.table.query(&change.Query{Watch: t.watch}, nil)
	if err != nil {
		return err
	}
	r.ran = r.ran || t.table.foreign()
	images := newImageMaker(t.table.columns)
	rows := r.conn.PgConn().ExecParams(ctx, query.sql, query.values, query.types, nil, nil)
	for rows.NextRow() {
		values := rows.Values()
		image, ok := []byte(nil), false
		if !query.tooLarge(values) {
			image, ok = images.image(values)
		}
		if !ok {
			t.report.Problem = "a row of it can't be converted, so that it has no image"
		}
		if err != nil || !ok {
			continue // the rest is read, so that the transaction goes on
		}
		err = do(image)
	}
	if _, closing := rows.Close(); closing != nil {
		return closing
	}
	return err
}

// choose picks the buckets to be looked into, and reports whether there are any.
func (t *verifiedTable) choose() bool {
	t.look, t.keys = map[int]bool{}, map[string]*verifiedKey{}
	if t.report.Problem != "" {
		return false
	}
	for b := range t.made {
		if t.made[b] == t.found[b] {
			continue
		}
		if len(t.look) == verifyLooked {
			t.report.More = true
			break
		}
		t.look[b] = true
	}
	return len(t.look) > 0
}

// explain says which keys differ.
func (t *verifiedTable) explain(limit int) {
	for key, k := range t.keys {
		if k.made == k.found {
			continue
		}
		if len(t.report.Differences) == limit {
			t.report.More = true
			break
		}
		d := Difference{Kind: "different", Key: key}
		switch {
		case k.made.rows < k.found.rows:
			d.Kind = "missing"
		case k.made.rows > k.found.rows:
			d.Kind = "extra"
		}
		t.report.Differences = append(t.report.Differences, d)
	}
	slices.SortFunc(t.report.Differences, func(a, b Difference) int { return strings.Compare(a.Key, b.Key) })
}
