package gql

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

const everyField = `__typename kind cause key oldKey new { id } old { id } changedFields transaction committedAt cursor`

// stands is a row that stands.
func stands(t *testing.T, image string) subs.Matched {
	t.Helper()
	m := subs.Match{
		Change: &change.Change{Topic: change.Topic{Watch: 1}, Op: change.Insert, Tenant: "a", New: []byte(image)},
		New:    new(change.Row), Identity: tenantA,
	}
	if err := m.New.Parse(m.Change.New); err != nil {
		t.Fatal(err)
	}
	if e := plan(t, build(t), `subscription { ordersChanged { kind } }`, "", tenantA).Match(&m); e != subs.Enters {
		t.Fatalf("a row that stands is no insert: effect %d", e)
	}
	return subs.Matched{Match: m, Effect: subs.Stands}
}

func TestCursorOfAChange(t *testing.T) {
	t.Parallel()
	s := build(t)
	p := plan(t, s, `subscription { ordersChanged { kind cursor } }`, "", tenantA)
	c := updated("a", "a", orderOld, orderOld)
	m := parsed(t, &c, tenantA)
	behind := place.In(change.PartOf(&c))
	m.Before = change.PointAt(place)
	if got, want := string(p.Encode(context.Background(), m, subs.Changes)), `{"data":{"ordersChanged":{"kind":"UPDATE","cursor":"`+behind.String()+`"}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	m.Before = nil
	if got, want := string(p.Encode(context.Background(), m, subs.Changes)), `{"data":{"ordersChanged":{"kind":"UPDATE","cursor":null}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := string(p.Encode(context.Background(), m, subs.Failed)), `"data":null}`; !strings.HasSuffix(got, want) {
		t.Error(got)
	}
}

func TestRowsThatStand(t *testing.T) {
	t.Parallel()
	s := build(t)
	m := stands(t, orderOld)
	m.Before = change.PointAt(place) // even if it had one: nothing behind a single row can be resumed
	p := plan(t, s, `subscription { ordersChanged { `+everyField+` } }`, "", tenantA)
	row := `{"__typename":"OrdersChange","kind":"INITIAL","cause":null,"key":"7","oldKey":null,"new":{"id":"7"},"old":null,"changedFields":[],"transaction":null,"committedAt":null,"cursor":null}`
	if got, want := string(p.Encode(context.Background(), &m.Match, subs.Stands)), `{"data":{"ordersChanged":`+row+`}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b := plan(t, s, `subscription { ordersBatch { cursor synced complete changes { `+everyField+` } } }`, "", tenantA)
	if got, want := string(b.EncodeBatch(context.Background(), []subs.Matched{m, m}, false)), `{"data":{"ordersBatch":{"cursor":null,"synced":false,"complete":false,"changes":[`+row+`,`+row+`]}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBatchHasTheLastCursor(t *testing.T) {
	t.Parallel()
	p := plan(t, build(t), `subscription { ordersBatch { changes { cursor } cursor synced } }`, "", tenantA)
	first, last := updated("a", "a", orderOld, orderOld), updated("a", "a", orderOld, orderOld)
	last.Seq, last.Unserializable = 2, true
	var ms []subs.Matched
	for _, c := range []*change.Change{&first, &last} {
		m := subs.Matched{Match: *parsed(t, c, tenantA), Effect: subs.Changes}
		m.Before = change.PointAt(place)
		ms = append(ms, m)
	}
	ms[1].Effect = subs.Failed // it is told of, and so behind the batch
	got := string(p.EncodeBatch(context.Background(), ms, true))
	one, two := place.In(change.PartOf(&first)), place.In(change.PartOf(&last))
	if want := `"data":{"ordersBatch":{"changes":[{"cursor":"` + one.String() + `"}],"cursor":"` + two.String() + `","synced":false}}}`; !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := string(p.EncodeBatch(context.Background(), nil, true)), `{"data":{"ordersBatch":{"changes":[],"cursor":null,"synced":false}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSynced(t *testing.T) {
	t.Parallel()
	s := build(t, resumable("News"), price())
	required := build(t, resumable("News!"))
	for _, c := range []struct {
		schema      *Schema
		query, want string // CURSOR stands for it between quotes, or null
		cursors     bool
	}{
		{
			s, `subscription { o: ordersChanged { ` + everyField + ` } }`,
			`{"data":{"o":{"__typename":"OrdersChange","kind":"SYNCED","cause":null,"key":null,"oldKey":null,"new":null,"old":null,"changedFields":[],"transaction":null,"committedAt":null,"cursor":CURSOR}}}`, true,
		},
		{s, `subscription { ordersChanged { new { id } } }`, `{"data":{"ordersChanged":{"new":null}}}`, false},
		{
			s, `subscription { o: ordersBatch { __typename changes { cursor } complete synced c: cursor } }`,
			`{"data":{"o":{"__typename":"OrdersBatch","changes":[],"complete":true,"synced":true,"c":CURSOR}}}`, true,
		},
		{s, `subscription { ordersBatch { changes { cursor } } }`, `{"data":{"ordersBatch":{"changes":[]}}}`, true},
		{s, `subscription { ordersBatch { changes { kind } } }`, `{"data":{"ordersBatch":{"changes":[]}}}`, false},
		{
			s, `subscription { c: channel(name: "news") { __typename kind channel type data transaction committedAt cursor } }`,
			`{"data":{"c":{"__typename":"ChannelEvent","kind":"SYNCED","channel":"news","type":"","data":null,"transaction":null,"committedAt":null,"cursor":CURSOR}}}`, true,
		},
		{s, `subscription { channel(name: "news") { data } }`, `{"data":{"channel":{"data":null}}}`, false},
		{s, `subscription { n: news { text } }`, `{"data":{"n":null},"extensions":{"synced":true,"cursor":CURSOR}}`, true},
		{required, `subscription { n: news { text } }`, ``, true},
		{s, `subscription { priceChanged(symbol: "x") { amount } }`, ``, false},
	} {
		p := plan(t, c.schema, c.query, "", tenantA)
		if p.Cursors() != c.cursors {
			t.Errorf("%s: Cursors is %t", c.query, p.Cursors())
		}
		for at, cursor := range map[*change.Point]string{change.PointAt(place): `"` + place.String() + `"`, nil: "null"} {
			if got, want := string(p.EncodeSynced(at)), strings.ReplaceAll(c.want, "CURSOR", cursor); got != want {
				t.Errorf("%s\ngot  %s\nwant %s", c.query, got, want)
			}
		}
	}
}

func TestCursorOfAnEvent(t *testing.T) {
	t.Parallel()
	f := resumable("News")
	f.Resolve = func(_ context.Context, e *Event) (any, error) {
		if e.Args["about"] == "skip" {
			return nil, ErrSkip
		}
		args, err := json.Marshal(e.Args)
		return map[string]any{"text": string(args)}, err
	}
	s := build(t, f)
	c := change.Change{Op: change.Event, XID: 50, Seq: 9, At: time.Unix(1, 0), Topic: change.Topic{Channel: "news"}, Shared: true, New: []byte(`1`)}
	behind := place.In(change.PartOf(&c))
	for query, want := range map[string]string{
		`subscription { channel(name: "news") { kind data cursor } }`:                       `{"data":{"channel":{"kind":"EVENT","data":1,"cursor":CURSOR}}}`,
		`subscription { news(about: "x", after: "` + place.String() + `") { text } }`:       `{"data":{"news":{"text":"{\"about\":\"x\"}"}},"extensions":{"cursor":CURSOR}}`,
		`subscription { news(about: "skip") { text } }`:                                     ``,
		`subscription { n: news @skip(if: true) { text } news(about: "x") { __typename } }`: `{"data":{"news":{"__typename":"News"}},"extensions":{"cursor":CURSOR}}`,
	} {
		p := plan(t, s, query, "", tenantA)
		m := &subs.Match{Change: &c, Identity: tenantA, Before: change.PointAt(place)}
		if got, want := string(p.Encode(context.Background(), m, subs.Happens)), strings.ReplaceAll(want, "CURSOR", `"`+behind.String()+`"`); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", query, got, want)
		}
	}
}
