package pg

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
)

// interval is what one tick sees and an earlier one does not, whatever its topic. It never changes.
type interval struct {
	below, above *change.Tick
	list         []listed // in the order of their last seq
	rows         int64
	xids         []change.XID // ascending
	count        []int64      // rows of each
}

type intervalKey struct{ below, above change.Stamp }

// chooseTick chooses the tick up to which is read next behind tick $1 of xmax $2 on the way to tick $3: the furthest one behind
// which there are not too many rows, or else the next one.
const chooseTick = `
	with far as materialized (
	  select c.xid from notifyql.change c where c.xid >= $2::xid8 order by c.xid, c.seq offset 20000 limit 1
	), beyond as materialized (
	  select t.id from notifyql.tick t, far
	  where t.id > $1 and t.id <= $3 and pg_catalog.pg_snapshot_xmax(t.snapshot) > far.xid
	  order by t.id limit 1
	)
	select t.id, t.bits, t.snapshot::text
	from notifyql.tick t
	where t.id = coalesce((select max(b.id) from notifyql.tick b, beyond where b.id > $1 and b.id < beyond.id), (select id from beyond), $3)`

// begin chooses the next interval.
func (r *catchUp) begin(ctx context.Context) error {
	to := r.target
	iv, found := r.intervals.find(func(k intervalKey, iv *interval) bool {
		return k.below == r.at.Tick && k.above.ID <= to.ID && (k.above == to.Stamp || iv.rows >= sinceRows/2)
	})
	if found {
		r.above = iv.above
	} else {
		var u *change.Tick
		err := r.ask(ctx, func(batch *pgx.Batch) {
			batch.Queue(chooseTick, r.at.Tick.ID, uint64(r.below.Snapshot.Xmax), to.ID).Query(func(rows pgx.Rows) (err error) {
				u, err = scanTick(rows)
				return err
			})
		})
		if err != nil {
			return err
		}
		if u == nil {
			return fmt.Errorf("%w: its tick is not there", errTarget)
		}
		r.ticks.put(u.Stamp, u)
		r.above = u
	}
	r.at = r.at.Toward(r.above.Stamp)
	return nil
}

// between reads the next transactions of the interval, or ends it.
func (r *catchUp) between(ctx context.Context) error {
	r.fresh = false
	iv, err := r.intervals.get(ctx, intervalKey{r.at.Tick, r.at.Upper}, func() (*interval, error) {
		return r.list(ctx, r.below, r.above)
	})
	if err != nil {
		return err
	}
	next := sort.Search(len(iv.list), func(i int) bool { return iv.list[i].last > r.at.Last })
	for next < len(iv.list) && r.has(iv.list[next].xid) {
		next++
	}
	if next < len(iv.list) {
		if r.at.Part.XID != 0 {
			return errPastTarget
		}
		return r.chunk(ctx, iv, iv.list[next:])
	}
	var beyond []change.Mark
	if xids := r.at.Beyond(iv.above); len(xids) > 0 {
		if err := r.ask(ctx, func(batch *pgx.Batch) { queueMarks(batch, xids, &beyond) }); err != nil {
			return err
		}
		if len(beyond) < len(xids) {
			return fmt.Errorf("%w: the log has no longer what was delivered", change.ErrCursorExpired)
		}
	}
	r.at, r.below, r.above = r.at.At(iv.above, beyond), iv.above, nil
	return nil
}

// has reports whether a transaction is listed as delivered.
func (r *catchUp) has(x change.XID) bool {
	_, found := slices.BinarySearch(r.at.Done, x)
	return found
}

// end goes from the target's tick to the target.
func (r *catchUp) end(ctx context.Context) error {
	var lacking []change.XID
	for _, x := range r.to.Done {
		if !r.has(x) {
			lacking = append(lacking, x)
		}
	}
	if len(lacking) == 0 {
		if r.to.Part.XID == 0 || r.at.Part == r.to.Part {
			return fmt.Errorf("%w: what it says was delivered is not what there was", change.ErrCursorInvalid)
		}
		return r.inside(ctx, r.to.Part.XID, r.to.Part.Seq)
	}
	if r.at.Part.XID != 0 {
		return errPastTarget
	}
	r.fresh = false
	iv := &interval{below: r.below}
	var ranges []xidRange
	for _, x := range lacking {
		ranges = append(ranges, xidRange{lo: x, hi: x})
	}
	if err := iv.read(ctx, r.history, ranges); err != nil {
		return err
	}
	if len(iv.list) < len(lacking) {
		return fmt.Errorf("%w: the log does not reach back so far", change.ErrCursorExpired)
	}
	return r.chunk(ctx, iv, iv.list)
}

// xidRange is a range of transactions, from behind a seq of the first one to the end of the last one.
type xidRange struct {
	lo    change.XID
	after int64
	hi    change.XID
}

// list lists what tick u sees and tick t does not.
func (h *history) list(ctx context.Context, t, u *change.Tick) (*interval, error) {
	iv := &interval{below: t, above: u}
	var ranges []xidRange
	for _, x := range t.Snapshot.Xip {
		if u.Snapshot.Sees(x) {
			ranges = append(ranges, xidRange{lo: x, hi: x})
		}
	}
	lo := t.Snapshot.Xmax
	for _, x := range append(slices.Clone(u.Snapshot.Xip), u.Snapshot.Xmax) {
		if x > lo {
			ranges = append(ranges, xidRange{lo: lo, hi: x - 1})
		}
		lo = max(lo, x+1)
	}
	return iv, iv.read(ctx, h, ranges)
}

// listRanges sums up the next rows of ranges of transactions. The ranges are gone through one after the other.
const listRanges = `
	select p.xid, count(*), max(p.seq)
	from (select c.xid, c.seq from rows from (pg_catalog.unnest($1::xid8[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::xid8[])) r (lo, after, hi)
	      cross join lateral (
	        select c.xid, c.seq from notifyql.change c
	        where (c.xid, c.seq) > (r.lo, r.after) and c.xid <= r.hi
	        order by c.xid, c.seq limit 5000) c
	      limit 5000) p
	group by p.xid order by p.xid`

// read lists the transactions of ascending ranges. Of a large one not every row is looked at.
func (iv *interval) read(ctx context.Context, h *history, ranges []xidRange) error {
	for len(ranges) > 0 {
		var page []listed
		looked := int64(0)
		var batch pgx.Batch
		beginReading(&batch)
		queueRanges(&batch, ranges, &page)
		batch.Queue(endReading)
		if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		for _, t := range page {
			looked += t.rows
			if n := len(iv.list); n > 0 && iv.list[n-1].xid == t.xid { // it goes on from the page before
				t.rows += iv.list[n-1].rows
				iv.list = iv.list[:n-1]
			}
			iv.list = append(iv.list, t)
		}
		if looked < listRows {
			break
		}
		last := &iv.list[len(iv.list)-1]
		after := last.last
		if last.large() {
			if err := h.pool.QueryRow(ctx, lastSeq, uint64(last.xid)).Scan(&last.last); err != nil {
				return err
			}
			after = math.MaxInt64
		}
		for ranges[0].hi < last.xid {
			ranges = ranges[1:]
		}
		ranges[0].lo, ranges[0].after = last.xid, after
	}
	slices.SortFunc(iv.list, func(a, b listed) int { return cmp.Compare(a.xid, b.xid) })
	for _, t := range iv.list {
		iv.rows += t.rows
		iv.xids, iv.count = append(iv.xids, t.xid), append(iv.count, t.rows)
	}
	slices.SortFunc(iv.list, func(a, b listed) int { return cmp.Compare(a.last, b.last) })
	return nil
}

func queueRanges(batch *pgx.Batch, ranges []xidRange, into *[]listed) {
	var los, his []uint64
	var afters []int64
	for _, r := range ranges {
		los, afters, his = append(los, uint64(r.lo)), append(afters, r.after), append(his, uint64(r.hi))
	}
	batch.Queue(listRanges, los, afters, his).Query(func(rows pgx.Rows) error {
		var t listed
		_, err := pgx.ForEachRow(rows, []any{(*uint64)(&t.xid), &t.rows, &t.last}, func() error {
			*into = append(*into, t)
			return nil
		})
		return err
	})
}

// strangers is how many rows of other transactions may lie between two that are read in one range.
const strangers = 50

// cover gives ranges in which transactions of the interval lie, ascending ones, and few others.
func (iv *interval) cover(xids []change.XID) (los, his []uint64) {
	for i, x := range xids {
		if i > 0 && iv.near(xids[i-1], x) {
			his[len(his)-1] = uint64(x)
			continue
		}
		los, his = append(los, uint64(x)), append(his, uint64(x))
	}
	return los, his
}

// near reports whether there is little between two transactions of the interval. What ran when it ended may be large.
func (iv *interval) near(a, b change.XID) bool {
	if iv.above == nil || a < iv.below.Snapshot.Xmax {
		return false
	}
	running := iv.above.Snapshot.Xip
	if i, _ := slices.BinarySearch(running, a); i < len(running) && running[i] < b {
		return false
	}
	i, _ := slices.BinarySearch(iv.xids, a)
	for rows := int64(0); iv.xids[i+1] < b; i++ {
		if rows += iv.count[i+1]; rows > strangers {
			return false
		}
	}
	return true
}

// scanTick reads the one tick that there is in a result; nil if there is none.
func scanTick(rows pgx.Rows) (*change.Tick, error) {
	var t *change.Tick
	var id, bits int64
	var text string
	_, err := pgx.ForEachRow(rows, []any{&id, &bits, &text}, func() (err error) {
		t = &change.Tick{Stamp: change.Stamp{ID: id, Bits: uint64(bits)}}
		t.Snapshot, err = change.ParseSnapshot(text)
		return err
	})
	return t, err
}

// pageRanges reads what is in ranges of transactions, up to a seq.
const pageRanges = pageOf + `
			select c.* from rows from (pg_catalog.unnest($6::xid8[]), pg_catalog.unnest($7::xid8[])) r (lo, hi)
			cross join lateral (
				select c.* from notifyql.change c where c.xid >= r.lo and c.xid <= r.hi and c.seq <= $1::bigint` + pageFilter + `
				order by c.xid, c.seq limit $5::bigint
			) c
			limit $5::bigint` + pageBy

// chunk reads the first transactions of a list, each whole, as many as are likely to fill the page. list is of the interval, in
// the order of their last seq; some may be delivered.
func (r *catchUp) chunk(ctx context.Context, iv *interval, list []listed) error {
	if list[0].large() {
		return r.inside(ctx, list[0].xid, math.MaxInt64)
	}
	var chunk []listed
	var xids []change.XID
	var marks []change.Mark
	rows := int64(0)
	for _, t := range list {
		if len(chunk) > 0 && (t.large() || rows+t.rows > r.chunkRows) {
			break
		}
		if !r.has(t.xid) {
			rows += t.rows
			chunk, xids = append(chunk, t), append(xids, t.xid)
		}
	}
	last := chunk[len(chunk)-1].last
	slices.Sort(xids)
	los, his := iv.cover(xids)
	p := r.left()
	p.limit += wholeRows
	var f found
	err := r.ask(ctx, func(batch *pgx.Batch) {
		p.ask(pageRanges, last, los, his)(batch, &f)
		if iv.above == nil {
			queueMarks(batch, xids, &marks)
		}
	})
	if err != nil {
		return err
	}
	if f.more { // of the transactions before the next one all was read
		n := slices.IndexFunc(chunk, func(t listed) bool { return t.xid >= f.next })
		if n == 0 {
			return r.inside(ctx, chunk[0].xid, math.MaxInt64)
		}
		if n > 0 {
			chunk = chunk[:n]
		}
	}
	return r.take(ctx, chunk, &f, marks)
}

// take passes whole transactions, of which the changes wanted were found.
func (r *catchUp) take(ctx context.Context, chunk []listed, f *found, marks []change.Mark) error {
	parts := make(map[change.XID][]change.Change, len(chunk))
	for cs := f.changes; len(cs) > 0; {
		n := 1
		for n < len(cs) && cs[n].XID == cs[0].XID {
			n++
		}
		parts[cs[0].XID], cs = cs[:n:n], cs[n:]
	}
	var unordered []change.XID
	for _, x := range f.unordered {
		if slices.ContainsFunc(chunk, func(t listed) bool { return t.xid == x }) {
			unordered = append(unordered, x)
		}
	}
	if len(unordered) > 0 {
		orders, err := r.ordersOf(ctx, unordered)
		if err != nil {
			return err
		}
		for x, order := range orders {
			inPlaces(parts[x], order)
		}
	}
	before, rows := r.count, int64(0)
	for _, t := range chunk {
		r.pass(parts[t.xid], t.rows, true)
		mark := change.Mark{XID: t.xid, Seq: t.last}
		if r.at.Upper.ID == 0 {
			i := slices.IndexFunc(marks, func(m change.Mark) bool { return m.XID == t.xid })
			if i < 0 {
				return fmt.Errorf("%w: transaction %d is not in the log", change.ErrCursorExpired, t.xid)
			}
			mark = marks[i]
		}
		r.at = r.at.Past(mark)
		if rows += t.rows; r.count >= r.limit || r.bytes >= wholeBytes {
			break
		}
	}
	// So many rows are likely to bring what is missing.
	found := int64(r.count - before)
	r.chunkRows = min(max(rows*int64(r.limit)/max(found, 1), wholeRows), 8*r.chunkRows, sinceRows)
	return nil
}
