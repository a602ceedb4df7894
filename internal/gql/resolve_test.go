package gql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// echo is a field that shows what its resolver gives, of an event's data by default.
func echo(f Field) Field {
	f.SDL = `extend type Subscription { echo(mode: String): Echo } type Echo { v: String list: [Int!] sure: Int! }`
	return f
}

// told is the frames of events with these data.
func told(p *Plan, data ...string) []string {
	var ms []subs.Matched
	for _, d := range data {
		c := &change.Change{Op: change.Event, Topic: p.Topics()[0], Tenant: "a", New: []byte(d)}
		ms = append(ms, subs.Matched{Match: subs.Match{Change: c, Identity: tenantA}, Effect: subs.Happens})
	}
	var out []string
	for _, frame := range p.EncodeAll(context.Background(), ms) {
		out = append(out, string(frame))
	}
	return out
}

func failedWith(message string) string {
	return `{"errors":[{"message":"` + message + `","locations":[{"line":1,"column":16}],"path":["echo"],"extensions":{"code":"RESOLVER_FAILED"}}],"data":{"echo":null}}`
}

// A resolver that hangs is given up after its time, whether it looks at its context or not; one that does so always is not called without end;
// and nobody else waits for it.
func TestAResolverThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var calls atomic.Int32
		s := build(t, echo(Field{Resolve: func(ctx context.Context, e *Event) (any, error) {
			calls.Add(1)
			switch e.Args["mode"] {
			case "deaf":
				<-free
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return map[string]any{"v": "x"}, nil
		}}))
		echoing := func(mode string) *Plan {
			return plan(t, s, `subscription { echo(mode: "`+mode+`") { v } }`, "", tenantA)
		}
		deaf, slow, fine := echoing("deaf"), echoing("slow"), echoing("fine")
		since := time.Now()
		took := func(want time.Duration) {
			t.Helper()
			if d := time.Since(since); d != want {
				t.Errorf("it took %v, want %v", d, want)
			}
			since = time.Now()
		}
		for range maxStuck {
			if got := told(deaf, "1")[0]; got != failedWith("the resolver took too long") {
				t.Error(got)
			}
			took(5 * time.Second)
			if got := told(fine, "1")[0]; got != `{"data":{"echo":{"v":"x"}}}` {
				t.Error(got)
			}
			took(0)
		}
		calls.Store(0)
		if got := told(deaf, "1")[0]; got != failedWith("the resolver has not returned from earlier calls") || calls.Load() != 0 {
			t.Error(got, calls.Load())
		}
		took(0)
		for range 2 * maxStuck {
			if got := told(slow, "1")[0]; got != failedWith("the resolver took too long") {
				t.Error(got)
			}
			took(5 * time.Second)
		}
		close(free)
		synctest.Wait()
		if got := told(deaf, "1")[0]; got != `{"data":{"echo":{"v":"x"}}}` {
			t.Errorf("when it has returned: %s", got)
		}
	})
}

// Calls of a field that hang, of however many subscriptions, are bounded, and those that come then are told so.
func TestHangingCallsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var under, most atomic.Int32
		c := newCalls()
		results := make(chan error, 2*alive)
		for range cap(results) {
			go func() {
				_, err := c.do(t.Context(), time.Minute, new(stuck), func(context.Context) []answer {
					most.Store(max(most.Load(), under.Add(1)))
					<-free
					under.Add(-1)
					return []answer{{}}
				})
				results <- err
			}()
		}
		synctest.Wait()
		if n := under.Load(); n != turns {
			t.Errorf("%d calls at once", n)
		}
		var slow, busy int
		for range cap(results) {
			switch err := <-results; err {
			case errSlow:
				slow++
			case errBusy:
				busy++
			default:
				t.Fatal(err)
			}
		}
		if most.Load() > alive || slow == 0 || slow > alive || slow+busy != 2*alive {
			t.Errorf("at most %d calls, %d slow, %d refused", most.Load(), slow, busy)
		}
		close(free)
		synctest.Wait()
		if _, err := c.do(t.Context(), time.Minute, new(stuck), func(context.Context) []answer { return []answer{{}} }); err != nil {
			t.Error(err)
		}
	})
}

// However many calls of others hang, a call waits for a part of its time only.
func TestHangingCallsLetOthersThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		c := newCalls()
		for range turns {
			go c.do(t.Context(), time.Minute, new(stuck), func(context.Context) []answer { //nolint:errcheck // it hangs
				<-free
				return nil
			})
		}
		synctest.Wait()
		since := time.Now()
		_, err := c.do(t.Context(), time.Minute, new(stuck), func(context.Context) []answer { return []answer{{}} })
		if d := time.Since(since); err != nil || d != time.Minute/5 {
			t.Errorf("after %v: %v", d, err)
		}
		close(free)
		synctest.Wait()
	})
}

// Many calls of a resolver that takes nearly all of its time, and does not look at its context, have a time together; and when nobody waits
// for them any more, it is over with those that are under way.
func TestManySlowCallsEnd(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]time.Duration{"all stay": time.Hour, "all leave": 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const limit = 5 * time.Second
			s := build(t, Field{SDL: `extend type Orders { n: Int }`, Needs: []string{"quantity"}, Resolve: func(context.Context, *Event) (any, error) {
				<-time.After(limit - time.Second)
				return 1, nil
			}})
			p := plan(t, s, `subscription { ordersBatch { changes { new { n } } } }`, "", tenantA)
			var ms []subs.Matched
			for i := range 1000 {
				ms = append(ms, order(t, p, "", fmt.Sprint(i)))
			}
			ctx, cancel := context.WithTimeout(context.Background(), leave)
			defer cancel()
			began := time.Now()
			p.EncodeBatch(ctx, ms, true)
			if took, most := time.Since(began), min(leave, atOnce*limit)+limit; took > most {
				t.Errorf("%s: it took %v, more than %v", name, took, most)
			}
		})
	}
}

// One call serves many events, each with its own value or error.
func TestResolveBatch(t *testing.T) {
	t.Parallel()
	var sizes []int
	s := build(t, echo(Field{ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) {
		sizes = append(sizes, len(es))
		out := make([]any, len(es))
		for i, e := range es {
			switch string(e.Data) {
			case "1":
				out[i] = errors.New("not this one")
			case "2":
				out[i] = ErrSkip
			case "3":
				out[i] = failing{}
			case "4":
				return out[:1], nil
			case "5":
				return nil, errors.New("none")
			default:
				out[i] = map[string]any{"v": string(e.Data)}
			}
		}
		return out, nil
	}}))
	p := plan(t, s, `subscription { echo { v } }`, "", tenantA)
	value := func(v string) string { return `{"data":{"echo":{"v":"` + v + `"}}}` }
	got := told(p, "0", "1", "2", "0")
	if want := []string{value("0"), failedWith("not this one"), "", value("0")}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q", got)
	}
	for data, why := range map[string]string{"3": "internal error", "4": "internal error", "5": "none"} {
		if got := told(p, "0", data); got[0] != failedWith(why) || got[1] != got[0] {
			t.Errorf("%s: got %q", data, got)
		}
	}
	sizes = nil
	many := make([]string, 2*together)
	for i := range many {
		many[i] = "9"
	}
	if got := told(p, many[:together]...); len(got) != together || got[together-1] != value("9") || fmt.Sprint(sizes) != fmt.Sprint([]int{together}) || p.Together() != together {
		t.Errorf("calls for %v events, the last result %q", sizes, got[len(got)-1])
	}
}

// failing panics when it is encoded.
type failing struct{}

func (failing) MarshalJSON() ([]byte, error) { panic("while it is encoded") }

// What a resolver gives is bounded, and so is what a document makes of it.
func TestResolversGiveTooMuch(t *testing.T) {
	t.Parallel()
	s := build(t, echo(Field{Resolve: func(_ context.Context, e *Event) (any, error) {
		n := map[string]int{"10": 10 << 20, "1": 1<<20 - 20}[string(e.Data)]
		if n == 0 {
			return nil, errors.New(strings.Repeat("e", 10<<20))
		}
		return map[string]any{"v": strings.Repeat("x", n)}, nil
	}}))
	p := plan(t, s, `subscription { echo { v } }`, "", tenantA)
	limit := `{"errors":[{"message":"the resolver's value has 10485768 bytes, more than 1048576","locations":[{"line":1,"column":16}],"path":["echo"],"extensions":{"code":"LIMIT_EXCEEDED","limit":"resolverBytes","max":1048576}}],"data":{"echo":null}}`
	if got := told(p, "10")[0]; got != limit {
		t.Errorf("got %.300s", got)
	}
	if got := told(p, "1")[0]; len(got) < 1<<20-20 || strings.Contains(got, "errors") {
		t.Errorf("got %.300s", got)
	}
	if got := told(p, "0")[0]; len(got) > 2*maxMessage || !strings.Contains(got, "RESOLVER_FAILED") {
		t.Errorf("got %d bytes", len(got))
	}
	var aliases strings.Builder
	for i := range 100 {
		fmt.Fprintf(&aliases, "a%d: v ", i)
	}
	p = plan(t, s, `subscription { echo { `+aliases.String()+`} }`, "", tenantA)
	if got := told(p, "1")[0]; len(got) > (perFrame+2)<<20 || !strings.Contains(got, `"The result has more than 16777216 bytes."`) || !json.Valid([]byte(got)) {
		t.Errorf("got %d bytes, %.300s", len(got), got)
	}
}

// broken is an error whose methods fail, each in its way, as those of a nil pointer do.
type broken struct{ text *string }

func (e *broken) Error() string { return *e.text }

type hanging struct{ until chan struct{} }

func (e hanging) Error() string {
	<-e.until
	return ""
}

type refusing struct{ error }

func (refusing) Is(error) bool { panic("it is asked what it is") }

func (refusing) As(any) bool { panic("it is asked what it is") }

// What an error's methods do is contained like what the resolver does: the server goes on, and the client is told of a failure.
func TestResolversErrorsMisbehave(t *testing.T) {
	t.Parallel()
	until := make(chan struct{})
	defer close(until)
	errs := map[string]error{"0": (*broken)(nil), "1": &broken{}, "2": hanging{until}, "3": refusing{errors.New("no")}, "4": fmt.Errorf("wrapped: %w", refusing{errors.New("no")})}
	one := func(_ context.Context, e *Event) (any, error) { return nil, errs[string(e.Data)] }
	for name, f := range map[string]Field{
		"one":  {Resolve: one},
		"many": {ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) { return nil, errs[string(es[0].Data)] }},
		"each": {ResolveBatch: func(_ context.Context, es []*Event) ([]any, error) { return []any{errs[string(es[0].Data)]}, nil }},
	} {
		s, _, err := Options{Limits: Limits{ResolverTimeout: 50 * time.Millisecond}}.Build(shop(), []Field{echo(f)})
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, s, `subscription { echo { v } }`, "", tenantA)
		for data := range errs {
			want := failedWith("internal error")
			if data == "2" {
				want = failedWith(errSlow.Error())
			}
			if got := told(p, data)[0]; got != want {
				t.Errorf("%s, %s: got %s", name, data, got)
			}
		}
	}
}

// A resolver can say itself what the client is told.
func TestResolversErrors(t *testing.T) {
	t.Parallel()
	s := build(t, echo(Field{Resolve: func(_ context.Context, e *Event) (any, error) {
		return nil, fmt.Errorf("wrapped: %w", Told(e.Data))
	}}))
	p := plan(t, s, `subscription { echo { v } }`, "", tenantA)
	for in, want := range map[string]string{
		`[{"message":"no","extensions":{"code":"NO","retryAfter":1.50}},{"message":"nor that","path":["list",3]}]`: `{"errors":[` +
			`{"message":"no","locations":[{"line":1,"column":16}],"path":["echo"],"extensions":{"code":"NO","retryAfter":1.5}},` +
			`{"message":"nor that","locations":[{"line":1,"column":16}],"path":["echo","list",3],"extensions":{"code":"RESOLVER_FAILED"}}],"data":{"echo":null}}`,
		`[]`: failedWith("internal error"), `{`: failedWith("internal error"),
		`[{"message":"` + strings.Repeat("x", 1<<20) + `"}]`: failedWith("internal error"),
	} {
		if got := told(p, in)[0]; got != want {
			t.Errorf("%.100s: got %.400s", in, got)
		}
	}
}

// grant and secret are claims of which JSON tells nothing.
type grant struct{ level int }

type secret string

func (secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Nobody is served what was made for somebody else: a resolver that is not told who asks makes values for all, and one that is, for each.
func TestResolversAndIdentities(t *testing.T) {
	t.Parallel()
	var seen []*auth.Identity
	resolve := func(_ context.Context, e *Event) (any, error) {
		seen = append(seen, e.Identity)
		return nil, nil
	}
	ids := []*auth.Identity{
		{UserID: "u", Tenants: []string{"a"}, ExpiresAt: time.Unix(9, 0)},
		{UserID: "v", Tenants: []string{"a"}},
		{UserID: "u", Tenants: []string{"a"}, Roles: []string{"r"}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": "b c:d"}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": "b", "c": "d"}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": 1}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": "1"}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": make(chan int)}},
		// What JSON does not tell of, or tells like something else.
		{UserID: "u\xfe", Tenants: []string{"a"}},
		{UserID: "u\xff", Tenants: []string{"a"}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": grant{level: 1}}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": grant{level: 2}}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": []any{&grant{level: 1}}}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": []any{&grant{level: 2}}}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": secret("1")}},
		{UserID: "u", Tenants: []string{"a"}, Claims: map[string]any{"a": secret("2")}},
		nil,
	}
	rows := Field{SDL: `extend type Orders { echo: Int }`, Needs: []string{"note"}, Resolve: resolve}
	for _, query := range []string{`subscription { echo { v } }`, `subscription { ordersChanged { new { echo } } }`} {
		own := build(t, echo(Field{Resolve: resolve}), rows)
		keys := map[string]int{}
		for i, id := range ids {
			p := plan(t, own, query, "", id)
			if before, there := keys[p.Key()]; there {
				t.Errorf("%s: %v is served what is made for %v", query, id, ids[before])
			}
			keys[p.Key()] = i
			p.Encode(context.Background(), someMatch(t, p), subs.Enters)
			if got := seen[len(seen)-1]; id != nil && (got == nil || got.UserID != id.UserID || !got.ExpiresAt.IsZero()) {
				t.Errorf("%s: the resolver is told of %v, not of %v", query, got, id)
			}
		}
		if a, b := plan(t, own, query, "", ids[0]), plan(t, own, query, "", &auth.Identity{UserID: "u", Tenants: []string{"a"}}); a.Key() != b.Key() {
			t.Errorf("%s: equal identities are told apart", query)
		}
		claims := func() *auth.Identity {
			return &auth.Identity{UserID: "u", Claims: map[string]any{"n": json.Number("1"), "l": []any{"x", 1.5, nil, true}, "s": []string{"y"}, "o": map[string]any{"k": 7}}}
		}
		if a, b := plan(t, own, query, "", claims()), plan(t, own, query, "", claims()); a.Key() != b.Key() {
			t.Errorf("%s: equal claims are told apart", query)
		}
		all := rows
		all.SameForAll = true
		same := build(t, echo(Field{Resolve: resolve, SameForAll: true}), all)
		for _, id := range ids {
			p := plan(t, same, query, "", id)
			if p.Key() != plan(t, same, query, "", ids[0]).Key() {
				t.Errorf("%s: %v is told apart", query, id)
			}
			p.Encode(context.Background(), someMatch(t, p), subs.Enters)
			if got := seen[len(seen)-1]; got != nil {
				t.Errorf("%s: a resolver for all is told of %v", query, got)
			}
		}
	}
}

// someMatch is an event, or a row that was inserted.
func someMatch(t *testing.T, p *Plan) *subs.Match {
	t.Helper()
	m := &subs.Match{Change: &change.Change{Op: change.Event, Topic: p.Topics()[0], Tenant: "a", New: []byte(orderNew)}}
	if p.custom == nil {
		m.Change.Op, m.New = change.Insert, new(change.Row)
		if err := m.New.Parse(m.Change.New); err != nil {
			t.Fatal(err)
		}
	}
	return m
}
