package pg

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sort"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/notifyql/notifyql/internal/change"
)

// interval lists what one tick sees and an earlier one does not, whatever its topic, and whatever anybody was sent of it.
type interval struct {
	list  []listed // ascending by xid
	order []int32  // of list: by last seq
	from  int64    // what has no higher last seq is left out
	upTo  int64    // and what has a higher one than this

	later   change.XID   // the first xid that may not yet have been given out when the interval began
	running []change.XID // when it ended: who knows how much is there of them
	most    int          // transactions in list
	ranges  []xidRange   // that are still to be read
}

type intervalKey struct {
	below, above change.Stamp
	from         int64
}

// xidRange is a range of transactions, from behind a seq of the first one to the end of the last one.
type xidRange struct {
	lo    change.XID
	after int64
	hi    change.XID
}

// mostListed is how many transactions of an interval are listed in one go. There are so many only where for long no tick was made.
const mostListed = 500_000

// begin begins to list what tick u sees and tick t does not. It does nothing where that was begun before.
func (iv *interval) begin(t, u *change.Tick, from int64, most int) {
	if iv.most > 0 {
		return
	}
	*iv = interval{from: from, upTo: math.MaxInt64, most: most, later: t.Snapshot.Xmax, running: u.Snapshot.Xip}
	for _, x := range t.Snapshot.Xip {
		if u.Snapshot.Sees(x) {
			iv.ranges = append(iv.ranges, xidRange{lo: x, hi: x})
		}
	}
	lo := iv.later
	for _, x := range append(slices.Clone(iv.running), u.Snapshot.Xmax) {
		if x > lo {
			iv.ranges = append(iv.ranges, xidRange{lo: lo, hi: x - 1})
		}
		lo = max(lo, x+1)
	}
}

// single begins to list single transactions.
func (iv *interval) single(xids []change.XID) {
	*iv = interval{upTo: math.MaxInt64, most: len(xids), later: math.MaxUint64}
	for _, x := range xids {
		iv.ranges = append(iv.ranges, xidRange{lo: x, hi: x})
	}
}

// bytes is about how much memory it takes.
func (iv *interval) bytes() int64 { return 32*int64(cap(iv.list)) + 4*int64(cap(iv.order)) + 200 }

// nth is the transaction with the nth lowest last seq.
func (iv *interval) nth(n int) *listed { return &iv.list[iv.order[n]] }

// follows reports whether what comes behind a seq is in the list, or at least the first of it.
func (iv *interval) follows(seq int64) bool {
	return iv.from <= seq && (seq < iv.upTo || iv.upTo == math.MaxInt64)
}

// behind is the place in the order of the first transaction behind a seq.
func (iv *interval) behind(seq int64) int {
	return sort.Search(len(iv.order), func(i int) bool { return iv.nth(i).last > seq })
}

// listRanges gives the next rows of ranges of transactions, $4 at most. The ranges are gone through one after the other, which
// is what makes the answer ordered: nothing else can be made of a function's rows and a query that depends on them.
const listRanges = `
	select c.xid, c.seq
	from rows from (pg_catalog.unnest($1::xid8[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::xid8[])) r (lo, after, hi)
	cross join lateral (
		select c.xid, c.seq from notifyql.change c
		where (c.xid, c.seq) > (r.lo, r.after) and c.xid <= r.hi
		order by c.xid, c.seq limit $4
	) c
	limit $4`

// read lists the transactions, so many rows at a time. Of a large one not every row is looked at. After an error it can be called again.
func (iv *interval) read(ctx context.Context, pool *pgxpool.Pool, rows int64) error {
	for len(iv.ranges) > 0 {
		var page []listed
		var batch pgx.Batch
		beginReading(&batch)
		queueRanges(&batch, iv.ranges, rows, &page)
		batch.Queue(endReading)
		if err := pool.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		looked := int64(0)
		for _, t := range page {
			looked += t.rows
		}
		if looked < rows {
			iv.add(page)
			break
		}
		last := page[len(page)-1]
		after := last.last
		if last.large() {
			if err := pool.QueryRow(ctx, lastSeq, uint64(last.xid)).Scan(&last.last); err != nil {
				return err
			}
			page[len(page)-1], after = last, math.MaxInt64
		}
		iv.add(page)
		for iv.ranges[0].hi < last.xid {
			iv.ranges = iv.ranges[1:]
		}
		iv.ranges[0].lo, iv.ranges[0].after = last.xid, after
	}
	iv.ranges = nil
	iv.cut()
	slices.SortFunc(iv.list, func(a, b listed) int { return cmp.Compare(a.xid, b.xid) })
	iv.order = make([]int32, len(iv.list))
	for i := range iv.order {
		iv.order[i] = int32(i)
	}
	slices.SortFunc(iv.order, func(a, b int32) int { return cmp.Compare(iv.list[a].last, iv.list[b].last) })
	return nil
}

// add takes the next transactions. The first of them may go on from the last one before.
func (iv *interval) add(page []listed) {
	for _, t := range page {
		if n := len(iv.list); n > 0 && iv.list[n-1].xid == t.xid {
			t.rows += iv.list[n-1].rows
			iv.list[n-1] = t
			continue
		}
		if len(iv.list) >= 2*iv.most {
			iv.cut()
		}
		iv.list = append(iv.list, t)
	}
}

// cut leaves out what is not wanted of the transactions listed, which are known to their end: what is not behind from, and of the
// others all but the most that come first.
func (iv *interval) cut() {
	iv.list = slices.DeleteFunc(iv.list, func(t listed) bool { return t.last <= iv.from || t.last > iv.upTo })
	if len(iv.list) > iv.most {
		slices.SortFunc(iv.list, func(a, b listed) int { return cmp.Compare(a.last, b.last) })
		iv.list = iv.list[:iv.most]
		iv.upTo = iv.list[iv.most-1].last
	}
}

func queueRanges(batch *pgx.Batch, ranges []xidRange, most int64, into *[]listed) {
	var los, his []uint64
	var afters []int64
	for _, r := range ranges {
		los, afters, his = append(los, uint64(r.lo)), append(afters, r.after), append(his, uint64(r.hi))
	}
	batch.Queue(listRanges, los, afters, his, most).Query(func(rows pgx.Rows) error {
		var xid uint64
		var seq int64
		_, err := pgx.ForEachRow(rows, []any{&xid, &seq}, func() error {
			n := len(*into)
			if n == 0 || (*into)[n-1].xid != change.XID(xid) {
				*into = append(*into, listed{xid: change.XID(xid)})
				n++
			}
			t := &(*into)[n-1]
			t.rows, t.last = t.rows+1, seq
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

// near reports whether there is little between two transactions of the interval.
func (iv *interval) near(a, b change.XID) bool {
	if a < iv.later || iv.from > 0 || iv.upTo < math.MaxInt64 {
		return b == a+1
	}
	if i, _ := slices.BinarySearch(iv.running, a); i < len(iv.running) && iv.running[i] < b {
		return false
	}
	i, _ := slices.BinarySearchFunc(iv.list, a, func(t listed, x change.XID) int { return cmp.Compare(t.xid, x) })
	for rows := int64(0); iv.list[i+1].xid < b; i++ {
		if rows += iv.list[i+1].rows; rows > strangers {
			return false
		}
	}
	return true
}
