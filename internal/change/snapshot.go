package change

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is pg_snapshot: which transactions had completed when it was taken.
// See https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS.
type Snapshot struct {
	Xmin XID   // every lower xid had completed
	Xmax XID   // one past the highest completed xid: a running transaction may have a higher one
	Xip  []XID // in [Xmin, Xmax) and still running; ascending
}

// Sees reports whether x had completed when the snapshot was taken. A transaction that aborted is seen too: it left no rows.
func (s Snapshot) Sees(x XID) bool {
	if x < s.Xmin {
		return true
	}
	if x >= s.Xmax {
		return false
	}
	_, running := slices.BinarySearch(s.Xip, x)
	return !running
}

// Covers reports whether s sees all that o sees, as does each snapshot of a database that was taken later than o there.
func (s Snapshot) Covers(o Snapshot) bool {
	if s.Xmin < o.Xmin || s.Xmax < o.Xmax {
		return false
	}
	return !slices.ContainsFunc(s.Xip, o.Sees)
}

// Equal reports whether s and o are the same. Between two equal snapshots of one database no transaction has ended.
func (s Snapshot) Equal(o Snapshot) bool {
	return s.Xmin == o.Xmin && s.Xmax == o.Xmax && slices.Equal(s.Xip, o.Xip)
}

// String gives the text form of pg_snapshot, xmin:xmax:xip1,xip2,….
func (s Snapshot) String() string {
	b := make([]byte, 0, 48+20*len(s.Xip))
	b = strconv.AppendUint(b, uint64(s.Xmin), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(s.Xmax), 10)
	b = append(b, ':')
	for i, x := range s.Xip {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(x), 10)
	}
	return string(b)
}

// ParseSnapshot reads the text form of pg_snapshot.
func ParseSnapshot(text string) (Snapshot, error) {
	bad := func(why string) (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("snapshot %.80q: %s", text, why)
	}
	lo, rest, ok1 := strings.Cut(text, ":")
	hi, xip, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 {
		return bad("want xmin:xmax:xip")
	}
	var s Snapshot
	var err error
	if s.Xmin, err = parseXID(lo); err != nil {
		return bad("xmin is no transaction id")
	}
	if s.Xmax, err = parseXID(hi); err != nil {
		return bad("xmax is no transaction id")
	}
	if s.Xmin == 0 || s.Xmax < s.Xmin {
		return bad("want 0 < xmin <= xmax")
	}
	for len(xip) > 0 {
		var one string
		one, xip, ok1 = strings.Cut(xip, ",")
		x, err := parseXID(one)
		if err != nil || x < s.Xmin || x >= s.Xmax {
			return bad("a running xid lies outside of [xmin, xmax)")
		}
		if n := len(s.Xip); n > 0 && s.Xip[n-1] >= x {
			return bad("running xids are not ascending")
		}
		if ok1 && xip == "" {
			return bad("trailing comma")
		}
		s.Xip = append(s.Xip, x)
	}
	return s, nil
}

func parseXID(s string) (XID, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return XID(n), err
}
