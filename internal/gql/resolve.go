package gql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/notifyql/notifyql/internal/auth"
)

// How resolvers are called, so that one that hangs keeps only its own subscribers waiting.
const (
	together = 100  // events in one call of a ResolveBatch at most
	atOnce   = 4    // calls at once for one frame
	turns    = 64   // calls of one field at once, but for those that take long
	alive    = 1024 // calls of one field that have not returned, however long ago they were given up
	maxStuck = 4    // of them, of one plan
	perFrame = 16   // values of the greatest size in one frame
)

// calls is what is known of the calls of one field.
type calls struct {
	turns chan struct{} // one for each call under way, for the first fifth of its time
	alive chan struct{} // one for each call that has not returned

	mu     sync.Mutex // guards when a panic was logged last, and how many have not been since
	said   time.Time
	unsaid int
}

// panicked logs a panic, once a second: each event may bring one.
func (c *calls) panicked(log *slog.Logger, field string, p any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.said) >= time.Second {
		log.Error("a resolver panicked", "field", field, "panic", fmt.Sprint(p), "unlogged", c.unsaid, "stack", string(debug.Stack()))
		c.said, c.unsaid = now, 0
		return
	}
	c.unsaid++
}

func newCalls() *calls {
	return &calls{turns: make(chan struct{}, turns), alive: make(chan struct{}, alive)}
}

// stuck counts the calls of a plan that were given up and have not returned.
type stuck struct{ n atomic.Int32 }

var (
	errInternal = errors.New("internal error")
	errSlow     = errors.New("the resolver took too long")
	errStuck    = errors.New("the resolver has not returned from earlier calls")
	errBusy     = errors.New("too many calls of the resolver are under way")
)

// do calls f in a goroutine, with a context that ends after limit, and gives up on it when it has not returned by then. The end of ctx ends
// f's, and f is waited for all the same. What f has is f's alone: it may go on with it for ever.
func (c *calls) do(ctx context.Context, limit time.Duration, s *stuck, f func(context.Context) []answer) ([]answer, error) {
	if s.n.Load() >= maxStuck {
		return nil, errStuck
	}
	if ctx.Err() != nil { // else of many calls some would still be made, one after the other
		return nil, errSlow
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case c.turns <- struct{}{}:
	case <-timer.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, errSlow
	}
	leave := sync.OnceFunc(func() { <-c.turns })
	defer leave()
	select {
	case c.alive <- struct{}{}:
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var over atomic.Bool // it has returned, or was given up
	done := make(chan []answer, 1)
	go func() {
		defer func() { <-c.alive }()
		var out []answer
		defer func() { // also if f ends its goroutine
			done <- out
			if over.Swap(true) {
				s.n.Add(-1)
			}
		}()
		out = f(ctx)
	}()
	early := limit / 5
	timer.Reset(early)
	for late := false; ; late = true {
		select {
		case out := <-done:
			if out == nil {
				return nil, errInternal
			}
			return out, nil
		case <-timer.C:
		}
		if !late {
			leave() // others of the field need not wait for it
			timer.Reset(limit - early)
			continue
		}
		s.n.Add(1)
		if over.Swap(true) { // just now
			s.n.Add(-1)
		}
		return nil, errSlow
	}
}

// answer is what a resolver says of an event.
type answer struct {
	value json.RawMessage
	err   error
}

// answers asks the field's resolver about events, each with its own answer.
func (c *custom) answers(ctx context.Context, s *stuck, es []*Event) []answer {
	ctx, cancel := context.WithTimeout(ctx, atOnce*c.limits.ResolverTimeout)
	defer cancel()
	size := 1
	if c.ResolveBatch != nil {
		size = together
	}
	out := make([]answer, len(es))
	ask := func(from, to int) {
		got, err := c.calls.do(ctx, c.limits.ResolverTimeout, s, func(ctx context.Context) []answer { return c.call(ctx, es[from:to]) })
		for i := from; i < to; i++ {
			if out[i].err = err; err == nil {
				out[i] = got[i-from]
			}
		}
	}
	if len(es) <= size {
		ask(0, len(es))
		return out
	}
	var asking sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for from := 0; from < len(es); from += size {
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			ask(from, min(from+size, len(es)))
		})
	}
	asking.Wait()
	return out
}

// call calls the resolver and encodes what it gives. A panic, here or in what encodes, is told to the log and not to the client.
func (c *custom) call(ctx context.Context, es []*Event) (out []answer) {
	out = make([]answer, len(es))
	all := func(err error) {
		for i := range out {
			out[i] = answer{err: err}
		}
	}
	defer func() {
		if r := recover(); r != nil {
			c.calls.panicked(c.log, c.name, r)
			all(errInternal)
		}
	}()
	values, err := c.values(ctx, es)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		all(errSlow)
		return out
	case err != nil:
		all(kept(err))
		return out
	case len(values) != len(es):
		c.log.Error("a resolver gave another number of values than it was asked for", "field", c.name, "events", len(es), "values", len(values))
		all(errInternal)
		return out
	}
	left := perFrame * c.limits.ResolverBytes
	for i, v := range values {
		if err, failed := v.(error); failed {
			out[i].err = kept(err)
			continue
		}
		data, err := json.Marshal(v)
		switch {
		case err != nil:
			err = kept(fmt.Errorf("the resolver's value is no JSON: %w", err))
		case len(data) > c.limits.ResolverBytes:
			err = tooLarge(c.limits.ResolverBytes, "the resolver's value has %d bytes, more than %d", len(data), c.limits.ResolverBytes)
		case len(data) > left:
			err = tooLarge(c.limits.ResolverBytes, "the resolver's values have more than %d bytes", perFrame*c.limits.ResolverBytes)
		default:
			left -= len(data)
			out[i].value = data
		}
		out[i].err = err
	}
	return out
}

// kept is of a resolver's error what clients are told of it. Its methods are the resolver's code, like the resolver: they are called here and
// nowhere else, where they may panic, as those of a nil pointer do, or hang.
func kept(err error) error {
	if errors.Is(err, ErrSkip) {
		return ErrSkip
	}
	if told := Told(nil); errors.As(err, &told) {
		return told
	}
	return errors.New(shortened(err.Error()))
}

func (c *custom) values(ctx context.Context, es []*Event) ([]any, error) {
	if c.ResolveBatch != nil {
		return c.ResolveBatch(ctx, es)
	}
	v, err := c.Resolve(ctx, es[0])
	return []any{v}, err
}

// resolves reports whether values come from a resolver.
func (f *Field) resolves() bool { return f.Resolve != nil || f.ResolveBatch != nil }

func tooLarge(max int, format string, args ...any) error {
	return &codedError{code: codeLimit, message: fmt.Sprintf(format, args...), limit: "resolverBytes", max: max}
}

// event is an event for the resolver, to keep: it may outlive the call.
func (c *custom) event(args map[string]any, id *auth.Identity) *Event {
	e := &Event{Field: c.name, Args: maps.Clone(args)}
	if !c.SameForAll && id != nil {
		own := *id
		own.ExpiresAt = time.Time{} // not the same for all who are told the answer
		e.Identity = &own
	}
	return e
}

var unlike atomic.Int64

// identityKey is equal for identities that are equal to a resolver. One that can't be compared is like no other.
func identityKey(id *auth.Identity) string {
	if id == nil {
		id = &auth.Identity{}
	}
	all := []any{id.UserID, id.Tenants, id.Roles, id.Claims}
	if plain(reflect.ValueOf(all), 0) {
		if text, err := json.Marshal(all); err == nil {
			return string(text)
		}
	}
	return fmt.Sprintf("unlike %d", unlike.Add(1))
}

// plain reports whether a value's JSON tells all of it: a struct or a pointer can have what JSON does not show, a type of the program's own
// a method that writes it, and a text that is not UTF-8 is written like others.
func plain(v reflect.Value, depth int) bool {
	if !v.IsValid() {
		return true // nil
	}
	if depth > maxClaimDepth || v.Type().PkgPath() != "" && v.Type() != reflect.TypeFor[json.Number]() {
		return false
	}
	switch v.Kind() {
	case reflect.Interface:
		return plain(v.Elem(), depth+1)
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return true
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !plain(v.Index(i), depth+1) {
				return false
			}
		}
		return true
	case reflect.Map:
		for m := v.MapRange(); m.Next(); {
			if m.Key().Kind() != reflect.String || !plain(m.Key(), depth+1) || !plain(m.Value(), depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

const maxClaimDepth = 100

// Told is a resolver's error that says itself what the client is told: a JSON array of GraphQL errors, of which message and extensions
// count, and path as what is below the field.
type Told []byte

func (t Told) Error() string { return string(t) }

const (
	maxToldBytes = 64 << 10
	maxMessage   = 4 << 10
)

// failWith tells of an error, which may have a code of its own.
func (w *writer) failWith(code string, s *selection, err error) {
	n := len(w.errs)
	var coded *codedError
	if errors.As(err, &coded) {
		code = coded.code
	}
	w.fail(code, s, "%s", shortened(err.Error()))
	if coded != nil && coded.limit != "" && n < len(w.errs) {
		w.errs[n].extensions = map[string]any{"limit": coded.limit, "max": coded.max}
	}
}

// failResolver tells of a resolver's error at the writer's path.
func (w *writer) failResolver(s *selection, err error) {
	var told Told
	if !errors.As(err, &told) {
		w.failWith(codeResolver, s, err)
		return
	}
	var list []gqlError
	if len(told) > maxToldBytes || json.Unmarshal(told, &list) != nil || len(list) == 0 || len(list) > maxErrors {
		w.log.Error("a resolver's error is no list of GraphQL errors, or too large", "bytes", len(told))
		w.fail(codeResolver, s, "%s", errInternal)
		return
	}
	for i := range list {
		e := &list[i]
		if n := len(w.errs); n < maxErrors {
			w.fail(codeResolver, s, "%s", shortened(e.Message))
			w.errs[n].path, w.errs[n].extensions = append(w.errs[n].path, e.Path...), e.Extensions
		}
	}
}

func shortened(message string) string {
	if len(message) > maxMessage {
		return message[:maxMessage] + "…"
	}
	return message
}
