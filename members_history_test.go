package notifyql_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// doc is a row of docs as a subscriber sees it.
type doc struct{ ID, Project, V int }

// docs is what a subscriber has got, by id.
type docs map[int]doc

// chronicle is the log of docs and members, from which follows what stood at a place.
type chronicle struct {
	t     testing.TB
	db    *pgtest.DB
	order []change.XID // by last seq
	txns  map[change.XID][]change.Change
	ticks map[int64]*change.Tick

	images map[int64][2]*image // old and new, by seq
}

func readChronicle(t testing.TB, db *pgtest.DB) *chronicle {
	t.Helper()
	c := &chronicle{t: t, db: db, txns: map[change.XID][]change.Change{}, ticks: map[int64]*change.Tick{}, images: map[int64][2]*image{}}
	rows, err := db.Pool(t).Query(t.Context(), `
		select c.xid, c.seq, c.at, c.op::text, c.watch, coalesce(c.tenant, ''), coalesce(c.old_tenant, ''), c.leaf, c.old_leaf, c.old_ctid, c.new_ctid, c.old::text, c.new::text
		from notifyql.change c where c.watch <> 0 order by c.xid, c.seq`)
	if err != nil {
		t.Fatal(err)
	}
	var one change.Change
	var xid uint64
	var watch int32
	var op string
	var leaf, oldLeaf pgtype.Uint32
	var oldTID, newTID pgtype.TID
	var before, after *string
	if _, err := pgx.ForEachRow(rows, []any{&xid, &one.Seq, &one.At, &op, &watch, &one.Tenant, &one.OldTenant, &leaf, &oldLeaf, &oldTID, &newTID, &before, &after}, func() error {
		ch := one
		ch.XID, ch.Op, ch.Topic.Watch, ch.At = change.XID(xid), change.Op(op[0]), change.WatchID(watch), one.At.UTC()
		ch.Leaf, ch.OldLeaf = leaf.Uint32, oldLeaf.Uint32
		ch.OldTID, ch.NewTID = change.TID{Block: oldTID.BlockNumber, Offset: oldTID.OffsetNumber}, change.TID{Block: newTID.BlockNumber, Offset: newTID.OffsetNumber}
		ch.Old, ch.New = nil, nil
		if before != nil {
			ch.Old = []byte(*before)
		}
		if after != nil {
			ch.New = []byte(*after)
		}
		c.txns[ch.XID] = append(c.txns[ch.XID], ch)
		c.images[ch.Seq] = [2]*image{c.image(ch.Old), c.image(ch.New)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	last := map[change.XID]int64{}
	for x, cs := range c.txns {
		last[x] = cs[len(cs)-1].Seq
		change.Canonical(cs)
		c.order = append(c.order, x)
	}
	slices.SortFunc(c.order, func(a, b change.XID) int { return cmp.Compare(last[a], last[b]) })
	return c
}

func (c *chronicle) tick(s change.Stamp) *change.Tick {
	if s.ID == 0 {
		return nil
	}
	if c.ticks[s.ID] == nil {
		var text string
		if err := c.db.Pool(c.t).QueryRow(c.t.Context(), "select snapshot::text from notifyql.tick where id = $1", s.ID).Scan(&text); err != nil {
			c.t.Fatal(err)
		}
		snapshot, err := change.ParseSnapshot(text)
		if err != nil {
			c.t.Fatal(err)
		}
		c.ticks[s.ID] = &change.Tick{Stamp: s, Snapshot: snapshot}
	}
	return c.ticks[s.ID]
}

// image is a row of docs or members.
type image struct {
	ID, V    int
	Project  *int
	Usr      string
	TenantID string `json:"tenant_id"`
}

// at is what user, who has these tenants, may see at a place.
func (c *chronicle) at(cursor, user string, tenants []string, watch change.WatchID) docs {
	c.t.Helper()
	at, err := change.ParseCursor(cursor)
	if err != nil {
		c.t.Fatal(err)
	}
	tick, upper := c.tick(at.Tick), c.tick(at.Upper)
	tables := map[change.WatchID]map[int]image{}
	for _, x := range c.order {
		cs := c.txns[x]
		var mark change.Mark
		for i := range cs {
			if cs[i].Seq > mark.Seq {
				mark = change.MarkOf(&cs[i])
			}
		}
		switch {
		case at.Part.XID == x:
			cs = cs[:1+slices.IndexFunc(cs, func(l change.Change) bool { return l.Seq == at.Part.Seq })]
		case !at.Delivered(mark, tick, upper):
			continue
		}
		for i := range cs {
			rows := tables[cs[i].Topic.Watch]
			if rows == nil {
				rows = map[int]image{}
				tables[cs[i].Topic.Watch] = rows
			}
			if cs[i].Op == change.Truncate {
				clear(rows)
			}
			images := c.images[cs[i].Seq]
			if was := images[0]; was != nil {
				delete(rows, was.ID)
			}
			if now := images[1]; now != nil {
				rows[now.ID] = *now
			}
		}
	}
	projects := map[int]bool{}
	for w, rows := range tables {
		for _, m := range rows {
			if w != watch && m.Project != nil && m.Usr == user && slices.Contains(tenants, m.TenantID) {
				projects[*m.Project] = true
			}
		}
	}
	seen := docs{}
	for id, d := range tables[watch] {
		if d.Project != nil && projects[*d.Project] && slices.Contains(tenants, d.TenantID) {
			seen[id] = doc{d.ID, *d.Project, d.V}
		}
	}
	return seen
}

func (c *chronicle) image(text []byte) *image {
	if text == nil {
		return nil
	}
	i := new(image)
	if err := json.Unmarshal(text, i); err != nil {
		c.t.Fatal(err)
	}
	return i
}

// docChange is a change as a subscriber gets it.
type docChange struct {
	Kind        string
	Cause       *string
	Old, New    *doc
	Transaction *string
	Cursor      *string
}

// apply takes a change into what there is. It must find what it says that it found.
func (d docs) apply(c *docChange) error {
	if c.Kind == "SYNCED" {
		return nil
	}
	if c.Old != nil {
		if was, there := d[c.Old.ID]; !there || was != *c.Old {
			return fmt.Errorf("%s of %+v, but there is %+v (%t)", c.Kind, *c.Old, was, there)
		}
		delete(d, c.Old.ID)
	}
	if c.New != nil {
		if was, there := d[c.New.ID]; there {
			return fmt.Errorf("%s of %+v, but there is %+v", c.Kind, *c.New, was)
		}
		d[c.New.ID] = *c.New
	}
	if (c.Kind == "INSERT" || c.Kind == "INITIAL") == (c.Old != nil) || (c.Kind == "DELETE") == (c.New != nil) {
		return fmt.Errorf("%s with %v and %v", c.Kind, c.Old, c.New)
	}
	return nil
}

// noted is what a subscriber had at a place.
type noted struct {
	cursor, user string
	tenants      []string
	rows         docs
}

func (n *noted) check(c *chronicle, watch change.WatchID) error {
	if want := c.at(n.cursor, n.user, n.tenants, watch); !maps.Equal(n.rows, want) {
		return fmt.Errorf("user %s of %v has at %s\n%v, want\n%v", n.user, n.tenants, n.cursor, n.rows, want)
	}
	return nil
}
