package notifyql_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/notifyql/notifyql"
)

// The smallest whole path: no database, a field of one's own with a resolver, subscribe, publish, and the bytes of an
// ExecutionResult.
func TestAPublishedEventReachesASubscriberInProcess(t *testing.T) {
	srv := run(t, notifyql.Config{
		Bus: notifyql.MemoryBus(),
		Fields: []notifyql.Field{{
			SDL: `extend type Subscription { priceChanged(symbol: String!): Price }
			      type Price { symbol: String! cents: Int! doubled: Int! }`,
			Channel: "prices",
			Resolve: func(_ context.Context, e *notifyql.FieldEvent) (any, error) {
				var p struct {
					Symbol string `json:"symbol"`
					Cents  int    `json:"cents"`
				}
				if err := json.Unmarshal(e.Data, &p); err != nil {
					return nil, err
				}
				if p.Cents < 0 {
					return nil, errors.New("a price below nothing")
				}
				return map[string]any{"symbol": p.Symbol, "cents": p.Cents, "doubled": 2 * p.Cents}, nil
			},
		}},
	})
	ctx := t.Context()
	stream, err := srv.Subscribe(ctx, notifyql.Request{
		Query:     `subscription($s: String!) { p: priceChanged(symbol: $s) { doubled symbol __typename } }`,
		Variables: map[string]any{"s": "ACME"},
		Identity:  notifyql.Identity{Tenants: []string{"acme"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(tenant string, cents int) {
		t.Helper()
		err := srv.Publish(ctx, notifyql.Event{Channel: "prices", Tenant: tenant, Data: map[string]any{"symbol": "ACME", "cents": cents}})
		if err != nil {
			t.Fatal(err)
		}
	}
	publish("other", 1)
	publish("acme", 21)
	publish("acme", -1)
	publish("acme", 4)
	next := func() string {
		t.Helper()
		b, err := stream.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got, want := next(), `{"data":{"p":{"doubled":42,"symbol":"ACME","__typename":"Price"}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var failed struct {
		Data   map[string]any
		Errors []struct {
			Message string
			Path    []any
		}
	}
	if err := json.Unmarshal([]byte(next()), &failed); err != nil || len(failed.Errors) != 1 ||
		failed.Errors[0].Message != "a price below nothing" || len(failed.Errors[0].Path) != 1 || failed.Errors[0].Path[0] != "p" {
		t.Errorf("a failing resolver gave %+v (%v)", failed, err)
	}
	if got, want := next(), `{"data":{"p":{"doubled":8,"symbol":"ACME","__typename":"Price"}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("a closed stream gave %v, want io.EOF", err)
	}
}

func TestPublishSaysWhatIsWrong(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	for name, e := range map[string]notifyql.Event{
		"no channel":        {Tenant: "a", Data: 1},
		"no tenant":         {Channel: "c", Data: 1},
		"tenant and shared": {Channel: "c", Tenant: "a", Shared: true, Data: 1},
		"no JSON":           {Channel: "c", Tenant: "a", Data: json.RawMessage(`{`)},
		"not encodable":     {Channel: "c", Tenant: "a", Data: make(chan int)},
	} {
		if err := srv.Publish(t.Context(), e); err == nil {
			t.Errorf("%s: published", name)
		}
	}
}

func TestSubscribeRefusesWhatIsNoValidDocument(t *testing.T) {
	srv := run(t, notifyql.Config{Bus: notifyql.MemoryBus()})
	_, err := srv.Subscribe(t.Context(), notifyql.Request{Query: `subscription { nothingLikeIt { a } }`})
	var refused *notifyql.RequestError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	var list []struct{ Message string }
	if err := json.Unmarshal(refused.Errors, &list); err != nil || len(list) == 0 || list[0].Message == "" {
		t.Fatalf("errors %s (%v)", refused.Errors, err)
	}
}
