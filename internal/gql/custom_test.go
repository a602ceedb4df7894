package gql

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

func TestCustomField(t *testing.T) {
	t.Parallel()
	f := price()
	f.Channel = "prices"
	f.Resolve = func(_ context.Context, e *Event) (any, error) {
		switch e.Args["symbol"] {
		case "skip":
			return nil, ErrSkip
		case "fail":
			return nil, errors.New("no such symbol")
		case "panic":
			panic("secret")
		case "null":
			return nil, nil
		case "bad":
			return map[string]any{"symbol": "bad", "amount": nil, "currency": "GBP"}, nil
		}
		return map[string]any{
			"symbol": e.Args["symbol"], "amount": json.RawMessage(e.Data), "currency": e.Args["in"],
			"marks": []any{map[string]any{"__typename": "High", "at": 1, "high": 2.5}, map[string]any{"__typename": "Low", "at": 2}},
		}, nil
	}
	s := build(t, f)
	event := change.Change{Op: change.Event, Topic: change.Topic{Channel: "prices"}, Tenant: "a", New: []byte(`12.340`)}
	for symbol, want := range map[string]string{
		"x":     `{"data":{"p":{"amount":"12.340","currency":"EUR","marks":[{"__typename":"High","at":1,"high":2.5},{"__typename":"Low","at":2,"low":null}]}}}`,
		"skip":  ``,
		"fail":  `{"errors":[{"message":"no such symbol","locations":[{"line":1,"column":29}],"path":["p"],"extensions":{"code":"RESOLVER_FAILED"}}],"data":null}`,
		"panic": `{"errors":[{"message":"internal error","locations":[{"line":1,"column":29}],"path":["p"],"extensions":{"code":"RESOLVER_FAILED"}}],"data":null}`,
		"null":  `{"errors":[{"message":"Cannot return null for non-nullable field Subscription.priceChanged.","locations":[{"line":1,"column":29}],"path":["p"],"extensions":{"code":"NULL_IN_NON_NULL"}}],"data":null}`,
		"bad":   `{"errors":[{"message":"Cannot return null for non-nullable field Price.amount.","locations":[{"line":1,"column":59}],"path":["p","amount"],"extensions":{"code":"NULL_IN_NON_NULL"}}],"data":null}`,
	} {
		p := plan(t, s, `subscription($s: String!) { p: priceChanged(symbol: $s) { amount currency marks { __typename at ... on High { high } ... on Low { low } } } }`, `{"s":"`+symbol+`"}`, tenantA)
		if p.Topics()[0] != event.Topic || !p.Blocks() {
			t.Errorf("topic %v, blocks %t", p.Topics()[0], p.Blocks())
		}
		if e, got := seen(t, p, event, tenantA); got != want || e != subs.Happens {
			t.Errorf("%s: got %s, want %s", symbol, got, want)
		}
		if e, _ := seen(t, p, event, &auth.Identity{Tenants: []string{"b"}}); e != subs.None {
			t.Errorf("another tenant is told: %d", e)
		}
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	s := build(t)
	p := plan(t, s, `subscription($n: String!) { channel(name: $n) { channel type data transaction committedAt __typename } }`, `{"n":"news"}`, tenantA)
	if p.Topics()[0] != (change.Topic{Channel: "news"}) || p.Blocks() {
		t.Errorf("topic %v, blocks %t", p.Topics()[0], p.Blocks())
	}
	event := change.Change{Op: change.Event, XID: 7, Topic: p.Topics()[0], Shared: true, EventType: "x", At: time.Unix(0, 0), New: []byte(`{"a": "<&>", "n": 1.50}`)}
	want := `{"data":{"channel":{"channel":"news","type":"x","data":{"a": "<&>", "n": 1.50},"transaction":"7","committedAt":"1970-01-01T00:00:00Z","__typename":"ChannelEvent"}}}`
	if _, got := seen(t, p, event, nil); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, errs := s.Subscribe(Request{Query: `subscription { channel(name: "") { type } }`}, nil); errs == nil {
		t.Error("a channel without a name is taken")
	}
	if p.Key() == plan(t, s, `subscription { channel(name: "olds") { channel type data transaction committedAt __typename } }`, "", tenantA).Key() {
		t.Error("two channels share a group")
	}
}

func TestCustomFieldThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for sdl, want := range map[string]string{
		`type X { a: Int }`:                                                "must extend Subscription by one field",
		`extend type Subscription { a: Int b: Int }`:                       "not by a and b",
		`extend type Subscription { a: Nothing }`:                          "Undefined type",
		`extend type Subscription { a: Int } type BigInt { a: Int }`:       "the type name BigInt is taken",
		`extend type Subscription { a: Int } extend type Query { b: Int }`: "not Query",
		`extend type Subscription { a: `:                                   "custom field",
		`extend type Subscription { a: Int } directive @x on FIELD`:        "define types only",
	} {
		_, _, err := Build(catalog.Catalog{}, []Field{{SDL: sdl}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", sdl, err, want)
		}
	}
}
