package subs

import (
	"context"
	"errors"
	"fmt"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
)

// ErrUntold is the end of a subscription that follows keys, where it can't be told which rows it has gained or lost.
var ErrUntold = errors.New("it can't be told which rows the subscription has gained or lost")

// maxUndone bounds the changes of a set that are taken back.
const maxUndone = 20_000

// stood is a row as it stood at a place.
type stood struct {
	image  []byte
	tenant string
	shared bool
}

const stoodBytes = 200 // what it costs beside its image

// rowsAt gives the rows of a set as they stood at a place, by their keys: those that stand in a snapshot which is behind the place, but for
// what has happened between. There the first change of a row that concerns the set says how it stood. The error is final if it wraps
// ErrUntold, ErrTooManyRows or one of change's that History says are.
func (h *Hub) rowsAt(ctx context.Context, at change.Cursor, set Set, id *auth.Identity) (map[string]stood, error) {
	u := undo{set: set, id: id, most: h.o.SnapshotBytes, rows: map[string]stood{}, known: map[string]struct{}{}}
	q := set.Query(id)
	q.Quick = true
	now, err := h.o.History.Rows(ctx, q, h.o.PageRows, func(cs []change.Change) error {
		h.rowsRead.Add(int64(len(cs)))
		for i := range cs {
			if err := u.stands(h, &cs[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for arrived := false; !arrived; {
		page, err := h.o.History.Since(ctx, at, now, set.Topics(), tenantsOf(id), h.o.PageRows)
		if err != nil {
			return nil, err
		}
		h.pagesRead.Add(1)
		for i := range page.Txns {
			for k := range page.Txns[i].Changes {
				if err := u.back(h, &page.Txns[i].Changes[k]); err != nil {
					return nil, err
				}
			}
		}
		at, arrived = page.Next, page.Arrived
	}
	return u.rows, nil
}

// undo takes changes back.
type undo struct {
	set   Set
	id    *auth.Identity
	most  int64 // bytes
	bytes int64
	rows  map[string]stood
	known map[string]struct{} // how these stood was decided by a change
	buf   rows
}

// stands takes a row of the snapshot.
func (u *undo) stands(h *Hub, c *change.Change) error {
	p := h.parse(c, &u.buf)
	m := matchOf(u.id, p.change, p.old, p.new, nil)
	switch u.set.Match(&m) {
	case None:
		return nil
	case Enters:
		key, ok := u.set.RowKey(m.New)
		if !ok {
			return untold("a row has no key")
		}
		return u.put(key, stood{c.New, c.Tenant, c.Shared})
	}
	return untold("a row can't be converted to JSON, or does not fit the schema")
}

// back takes a change back, the next one behind the place.
func (u *undo) back(h *Hub, c *change.Change) error {
	p := h.parse(c, &u.buf)
	m := matchOf(u.id, p.change, p.old, p.new, nil)
	e := u.set.Match(&m)
	var old, now string
	was, is := true, true
	switch e {
	case None:
		return nil
	case Changes, Leaves:
		old, was = u.set.RowKey(m.Old)
	}
	switch e {
	case Changes, Enters:
		now, is = u.set.RowKey(m.New)
	case Leaves:
	case Truncates:
		return untold("the table was truncated since")
	default:
		return untold("a change since can't be converted to JSON, or does not fit the schema")
	}
	if !was || !is {
		return untold("a row has no key")
	}
	if e != Enters && u.first(old) {
		if err := u.put(old, stood{c.Old, c.OldTenant, c.Shared}); err != nil {
			return err
		}
	}
	if e != Leaves && u.first(now) {
		u.drop(now)
	}
	if len(u.known) > maxUndone {
		return untold(fmt.Sprintf("more than %d rows have changed since", maxUndone))
	}
	return nil
}

// first reports whether it is not known yet how a row stood, and notes that it is.
func (u *undo) first(key string) bool {
	if _, known := u.known[key]; known {
		return false
	}
	u.known[key] = struct{}{}
	return true
}

func (u *undo) put(key string, row stood) error {
	u.drop(key)
	u.rows[key] = row
	if u.bytes += int64(len(key)+len(row.image)) + stoodBytes; u.bytes > u.most {
		return untold(fmt.Sprintf("they take more than %d bytes", u.most))
	}
	return nil
}

func (u *undo) drop(key string) {
	if row, there := u.rows[key]; there {
		u.bytes -= int64(len(key)+len(row.image)) + stoodBytes
		delete(u.rows, key)
	}
}

func untold(why string) error { return fmt.Errorf("%w: %s", ErrUntold, why) }
