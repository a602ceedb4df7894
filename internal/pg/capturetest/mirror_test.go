package capturetest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// place is where a row version is: its table and ctid.
type place struct {
	leaf uint32
	ctid string
}

// entry is a row of the log.
type entry struct {
	change.Change
	old, new       string // ctids
	flags          int
	oldImg, newImg *string
	oldT, newT     *string // tenants
}

// mirror keeps a copy of the table t in step by what is logged and announced, and compares it with the table.
//
// What does not hold is said to the reporter of the moment: a test, or one run of a property.
type mirror struct {
	t       *testing.T
	db      *pgtest.DB
	conn    *pgx.Conn // writes
	ear     *ear
	version int
	shared  bool
	tenant  string // the tenant column's name, or the foreign key's to it
	via     bool   // through a foreign key
	hidden  string // an excluded column's
	rows    map[place]string
}

type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func newMirror(t *testing.T, db *pgtest.DB) *mirror {
	return &mirror{t: t, db: db, conn: db.Conn(t, "postgres"), ear: listen(t, db), version: one[int](t, db, `select current_setting('server_version_num')::integer / 10000`)}
}

// load copies the table as it is and forgets what was logged of it.
func (m *mirror) load(t reporter) {
	t.Helper()
	m.ear.hear(m.t)
	m.db.Exec(m.t, `truncate notifyql.change`)
	if err := m.db.Pool(m.t).QueryRow(m.t.Context(), `select shared, coalesce((select attname from pg_attribute where attrelid = rel and attnum = (via).attnum), tenant_column, ''), (via).fk is not null, coalesce((select attname from pg_attribute where attrelid = rel and attnum = exclude[1]), '')
		from notifyql.watch where rel = 't'::regclass`).Scan(&m.shared, &m.tenant, &m.via, &m.hidden); err != nil {
		t.Fatalf("%v", err)
	}
	m.rows = m.table(t)
}

// table reads the table, without the column that is excluded.
func (m *mirror) table(t reporter) map[place]string {
	t.Helper()
	rows, err := m.conn.Query(m.t.Context(), `select tableoid, ctid::text, row_to_json(t)::text from t`)
	if err != nil {
		t.Fatalf("%v", err)
	}
	got := map[place]string{}
	var p place
	var image string
	if _, err := pgx.ForEachRow(rows, []any{&p.leaf, &p.ctid, &image}, func() error { got[p] = m.plain(t, image); return nil }); err != nil {
		t.Fatalf("%v", err)
	}
	return got
}

// plain is an image with its columns by name, since those of a partition may have another order, and without the one
// that is excluded. The values stay as they are, to the byte.
func (m *mirror) plain(t reporter, image string) string {
	t.Helper()
	var row change.Row
	if err := row.Parse([]byte(image)); err != nil {
		t.Fatalf("%.300s: %v", image, err)
	}
	var columns []string
	for i := range row.Len() {
		if name, value := row.Field(i); name != m.hidden {
			columns = append(columns, name+"="+string(value))
		}
	}
	slices.Sort(columns)
	return strings.Join(columns, " ")
}

// check takes what was written since the last check and compares.
func (m *mirror) check(t reporter, what string) {
	t.Helper()
	notes, log := m.ear.hear(m.t), m.log(t)
	m.covered(t, what, notes, log)
	for _, txn := range delivered(notes, log) {
		for _, e := range txn {
			m.apply(t, what, e)
		}
	}
	m.db.Exec(m.t, `truncate notifyql.change`)

	table := m.table(t)
	for p, image := range m.rows { // a column that was added is in the images from then on
		if now, ok := table[p]; ok && now != image && len(columns(now)) > len(columns(image)) && contains(now, image) {
			m.rows[p] = now
		}
	}
	if !maps.Equal(m.rows, table) {
		t.Errorf("%s: replayed:\n%s\nthe table:\n%s", what, show(m.rows), show(table))
	}
	m.rows = table
}

func show(rows map[place]string) string {
	var out []string
	for p, image := range rows {
		out = append(out, fmt.Sprintf("%d%s %.300s", p.leaf, p.ctid, image))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (m *mirror) log(t reporter) []entry {
	t.Helper()
	rows, err := m.db.Pool(m.t).Query(m.t.Context(), `select xid::text::bigint, seq, watch, op::text, flags, shared, tenant, old_tenant, coalesce(leaf, 0), coalesce(old_leaf, 0),
		coalesce(old_ctid::text, ''), coalesce(new_ctid::text, ''), old::text, new::text from notifyql.change order by seq`)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var log []entry
	var e entry
	var op string
	if _, err := pgx.ForEachRow(rows, []any{&e.XID, &e.Seq, &e.Topic.Watch, &op, &e.flags, &e.Shared, &e.newT, &e.oldT, &e.Leaf, &e.OldLeaf, &e.old, &e.new, &e.oldImg, &e.newImg}, func() error {
		e.Op = change.Op(op[0])
		e.OldTID, e.NewTID = tid(e.old), tid(e.new)
		log = append(log, e)
		return nil
	}); err != nil {
		t.Fatalf("%v", err)
	}
	return log
}

func tid(text string) (tid change.TID) {
	if text != "" {
		fmt.Sscanf(text, "(%d,%d)", &tid.Block, &tid.Offset)
	}
	return tid
}

// covered holds each logged change to have been announced, inline or by a marker of its tenants, and each announced one
// to have been logged.
func (m *mirror) covered(t reporter, what string, notes []note, log []entry) {
	t.Helper()
	inline, marked := map[string]bool{}, map[string]bool{}
	for _, n := range notes {
		switch n.kind() {
		case "M":
			marked[fmt.Sprintf("%v %v %v", n[2], n[3], n[4])] = true
		case "W":
		default:
			inline[fmt.Sprint(n[3])] = true
		}
	}
	for _, e := range log {
		if key := fmt.Sprint(e.Seq); inline[key] {
			delete(inline, key)
			if e.flags&6 != 0 {
				t.Errorf("%s: seq %d is inline, though its order may be another, or it half of a move", what, e.Seq)
			}
			continue
		}
		for _, tenant := range []*string{e.newT, e.oldT} {
			name := "<nil>"
			if tenant != nil && *tenant != "" {
				name = *tenant
			} else if !e.Shared {
				continue
			}
			of := fmt.Sprintf("%d %d ", e.XID, e.Topic.Watch)
			if !marked[of+name] && !marked[of+"<nil>"] {
				t.Errorf("%s: seq %d is not announced to %q", what, e.Seq, name)
			}
		}
	}
	for seq := range inline {
		t.Errorf("%s: seq %s is announced and not logged", what, seq)
	}
}

// delivered is what a node makes of it: of each transaction what came inline before the first marker, as it came; then
// the rest from the log, in canonical order.
func delivered(notes []note, log []entry) [][]entry {
	var order []change.XID
	of := map[change.XID][]entry{}
	for _, e := range log {
		if _, ok := of[e.XID]; !ok {
			order = append(order, e.XID)
		}
		of[e.XID] = append(of[e.XID], e)
	}
	slices.SortFunc(order, func(a, b change.XID) int { return int(of[a][len(of[a])-1].Seq - of[b][len(of[b])-1].Seq) })
	first := map[string]int{} // by xid, how many came inline before a marker
	stopped := map[string]bool{}
	for _, n := range notes {
		if n.kind() == "W" {
			continue
		}
		xid := fmt.Sprint(n[2])
		if n.kind() == "M" {
			stopped[xid] = true
		} else if !stopped[xid] {
			first[xid]++
		}
	}
	var txns [][]entry
	for _, xid := range order {
		entries := of[xid]
		n := first[fmt.Sprint(xid)]
		rest := slices.Clone(entries[n:])
		changes := make([]change.Change, len(rest))
		bySeq := map[int64]entry{}
		for i, e := range rest {
			changes[i] = e.Change
			bySeq[e.Seq] = e
		}
		change.Canonical(changes)
		sorted := slices.Clone(entries[:n])
		for _, c := range changes {
			sorted = append(sorted, bySeq[c.Seq])
		}
		txns = append(txns, sorted)
	}
	return txns
}

// apply does to the copy what the change says, and holds it to fit: the old version is there and looks so, the new one is not.
func (m *mirror) apply(t reporter, what string, e entry) {
	t.Helper()
	if e.flags&1 != 0 {
		t.Errorf("%s: seq %d has no images", what, e.Seq)
	}
	if e.Op == change.Truncate {
		clear(m.rows)
		return
	}
	if hasOld, hasNew := e.oldImg != nil, e.newImg != nil; hasOld != (e.Op != change.Insert) || hasNew != (e.Op != change.Delete) || hasOld != (e.old != "") || hasNew != (e.new != "") {
		t.Errorf("%s: seq %d, %c, has the wrong images", what, e.Seq, e.Op)
		return
	}
	if e.Shared != m.shared {
		t.Errorf("%s: seq %d: shared %v", what, e.Seq, e.Shared)
	}
	if e.oldImg != nil {
		p := place{e.Leaf, e.old}
		if e.OldLeaf != 0 {
			p.leaf = e.OldLeaf
		}
		if had, ok := m.rows[p]; !ok {
			t.Errorf("%s: seq %d: the old version at %v is not there", what, e.Seq, p)
		} else if old := m.plain(t, *e.oldImg); had != old && columns(had) == columns(old) { // or the table was altered in between
			t.Errorf("%s: seq %d: the old version is\n%.300s\nnot\n%.300s", what, e.Seq, old, had)
		}
		if strings.Contains(*e.oldImg, "hush") {
			t.Errorf("%s: seq %d: what is excluded is there", what, e.Seq)
		}
		delete(m.rows, p)
		m.belongs(t, what, e.Seq, e.oldT, *e.oldImg)
	}
	if e.newImg != nil {
		p := place{e.Leaf, e.new}
		if _, ok := m.rows[p]; ok {
			t.Errorf("%s: seq %d: there is a version at %v already", what, e.Seq, p)
		}
		m.rows[p] = m.plain(t, *e.newImg)
		m.belongs(t, what, e.Seq, e.newT, *e.newImg)
	}
}

// contains reports whether a plain image has all that another has.
func contains(all, part string) bool {
	for _, column := range strings.Split(part, " ") {
		if !strings.Contains(all, column) {
			return false
		}
	}
	return true
}

var value = regexp.MustCompile(`=\S+`)

// columns are the names in a plain image, near enough.
func columns(plain string) string { return value.ReplaceAllString(plain, "") }

func (m *mirror) belongs(t reporter, what string, seq int64, tenant *string, image string) {
	t.Helper()
	got, want := "", ""
	if tenant != nil {
		got = *tenant
	}
	if !m.shared {
		var row map[string]any
		decodeLoose(image, &row)
		want, _ = row[m.tenant].(string)
		if m.via && want != "" {
			want = "owner " + want
		}
	}
	if got != want {
		t.Errorf("%s: seq %d: tenant %q, want %q", what, seq, got, want)
	}
}
