package limit

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// at is a time of these tests' own.
func at(d time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(d) }

// In no span of time do more of a key get through than its rate and the burst, however many others there are and however
// little room for them; nor do the buckets ever take more than that room.
func TestARateIsNeverExceeded(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		perSecond, burst, room := 1+rnd.IntN(50), 1+rnd.IntN(20), 1+rnd.IntN(12)
		names := 1 + rnd.IntN(3*room)
		r := NewRate("r", perSecond, burst, room, "")
		passed := map[string][]time.Duration{}
		var now time.Duration
		for range 1500 {
			switch rnd.IntN(20) {
			case 0:
				now += time.Duration(rnd.Int64N(int64(2 * r.fill)))
			default:
				now += time.Duration(rnd.Int64N(int64(r.every)/4 + 2))
			}
			keys := []string{strconv.Itoa(rnd.IntN(names))}
			if more := strconv.Itoa(rnd.IntN(names)); rnd.IntN(4) == 0 && more != keys[0] {
				keys = append(keys, more)
			}
			if r.Take(at(now), keys...) == nil {
				for _, k := range keys {
					passed[k] = append(passed[k], now)
				}
			}
			if n := r.Keys(); n > room {
				t.Fatalf("seed %d: %d buckets, and room for %d", seed, n, room)
			}
		}
		for k, times := range passed {
			for i := range times {
				for j := i; j < len(times); j++ {
					if most := float64(perSecond)*(times[j]-times[i]).Seconds() + float64(burst); float64(j-i+1) > most+1e-6 {
						t.Fatalf("seed %d: %d of %s within %v, at %d a second after %d", seed, j-i+1, k, times[j]-times[i], perSecond, burst)
					}
				}
			}
		}
	}
}

// Where there is room for all, a key gets all that its rate and the burst allow, whatever the others do; and who is
// refused gets through at the time that it was told, and not before.
func TestARateIsGivenInFull(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		perSecond, burst := 1+rnd.IntN(50), 1+rnd.IntN(20)
		r := NewRate("r", perSecond, burst, 100, "")
		type bucket struct {
			tokens float64
			last   time.Duration
		}
		model := map[string]*bucket{}
		var now time.Duration
		for range 3000 {
			now += time.Duration(rnd.Int64N(int64(r.every)))
			if rnd.IntN(30) == 0 {
				now += time.Duration(rnd.Int64N(int64(3 * r.fill)))
			}
			key := strconv.Itoa(rnd.IntN(10))
			b := model[key]
			if b == nil {
				b = &bucket{tokens: float64(burst)}
				model[key] = b
			}
			b.tokens = min(float64(burst), b.tokens+float64(now-b.last)/float64(r.every))
			b.last = now
			no := r.Take(at(now), key)
			switch {
			case no == nil:
				b.tokens--
			case b.tokens > 1+1e-6:
				t.Fatalf("seed %d: refused with %v tokens", seed, b.tokens)
			case no.After <= 0 || no.After > r.every:
				t.Fatalf("seed %d: come again in %v, of %v", seed, no.After, r.every)
			default:
				if early := r.Take(at(now+no.After-1), key); early == nil {
					t.Fatalf("seed %d: it got through before its time", seed)
				}
				now += no.After
				if late := r.Take(at(now), key); late != nil {
					t.Fatalf("seed %d: refused at the time that it was told", seed)
				}
				b.tokens, b.last = 0, now
			}
			if b.tokens < -1e-6 {
				t.Fatalf("seed %d: got through with %v tokens", seed, b.tokens+1)
			}
		}
	}
}

// Of several keys all give a token or none does.
func TestATokenOfEachOrOfNone(t *testing.T) {
	t.Parallel()
	r := NewRate("r", 1, 2, 10, "no more than %d")
	r.Take(at(0), "a")
	r.Take(at(0), "a")
	no := r.Take(at(0), "b", "a")
	if no == nil || no.Limit != "r" || no.Max != 1 || no.Text != "no more than 1" || no.After != time.Second {
		t.Fatalf("got %+v", no)
	}
	for i, want := range []bool{true, true, false} { // b has lost nothing
		if got := r.Take(at(0), "b") == nil; got != want {
			t.Errorf("b, time %d: %v", i, got)
		}
	}
	if r.Refused() != 2 {
		t.Errorf("%d refusals", r.Refused())
	}
	if r.Take(at(0)) != nil {
		t.Error("nobody was refused")
	}
}

// What has not come for a while needs no memory, and a key of any length as much as another.
func TestBucketsThatAreFullAreDropped(t *testing.T) {
	t.Parallel()
	r := NewRate("r", 10, 10, 1<<16, "")
	for i := range 30_000 {
		r.Take(at(time.Duration(i)*time.Millisecond), strings.Repeat("x", 100)+strconv.Itoa(i))
		if n := r.Keys(); n > 2001 { // those of two seconds
			t.Fatalf("%d buckets after %d keys", n, i)
		}
	}
	r.Take(at(100*time.Second), "a")
	r.Take(at(200*time.Second), "a")
	if n := r.Keys(); n != 1 {
		t.Errorf("%d buckets are left", n)
	}
}

func TestRatesBeyondAllMeasure(t *testing.T) {
	t.Parallel()
	const most = int(^uint(0) >> 1)
	r := NewRate("r", most, most, 10, "")
	for i := range 1000 {
		if no := r.Take(at(0), "a"); no != nil {
			t.Fatalf("time %d: %v", i, no)
		}
	}
}

// Used by many at once, exactly as much gets through as may.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r, c := NewRate("r", 10, 100, 10, ""), NewCount("c", 100, "")
	var passed, counted atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				if r.Take(at(0), "a") == nil {
					passed.Add(1)
				}
				if c.Enter("a", strconv.Itoa(i)) == nil {
					counted.Add(1)
				}
			}
		})
	}
	all.Wait()
	if passed.Load() != 100 || counted.Load() != 100 || r.Refused() != 700 || c.Refused() != 700 {
		t.Errorf("%d and %d got through, %d and %d were refused", passed.Load(), counted.Load(), r.Refused(), c.Refused())
	}
}

// A Count agrees with counting by hand, and holds nothing of a key that has nothing open.
func TestACount(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 3))
	c := NewCount("c", 3, "%d is all")
	var open [][]string
	model := map[string]int{}
	for range 20_000 {
		if len(open) > 0 && rnd.IntN(2) == 0 {
			i := rnd.IntN(len(open))
			c.Leave(open[i]...)
			for _, k := range open[i] {
				if model[k]--; model[k] == 0 {
					delete(model, k)
				}
			}
			open = slices.Delete(open, i, i+1)
			continue
		}
		var keys []string
		full := false
		for k := range 6 {
			if key := fmt.Sprint(k); rnd.IntN(3) == 0 {
				keys = append(keys, key)
				full = full || model[key] == 3
			}
		}
		no := c.Enter(keys...)
		if (no != nil) != full {
			t.Fatalf("%v with %v open: %v", keys, model, no)
		}
		if no != nil {
			if no.Limit != "c" || no.Max != 3 || no.Text != "3 is all" || no.After <= 0 {
				t.Fatalf("got %+v", no)
			}
			continue
		}
		open = append(open, keys)
		for _, k := range keys {
			model[k]++
		}
		if c.Keys() != len(model) {
			t.Fatalf("%d keys for %v", c.Keys(), model)
		}
	}
}

func TestHowAClientIsTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		e      Exceeded
		json   string
		status int
		after  string
	}{
		{
			Exceeded{Limit: "a", Max: 5, After: 1200 * time.Millisecond, Text: `more than "5"`},
			`[{"message":"more than \"5\"; try again in 2 s","extensions":{"code":"LIMIT_EXCEEDED","limit":"a","max":5,"retryAfter":2}}]`, 429, "2",
		},
		{Exceeded{Limit: "b", Max: 1, Text: "no"}, `[{"message":"no","extensions":{"code":"LIMIT_EXCEEDED","limit":"b","max":1}}]`, 429, ""},
		{
			Exceeded{Limit: "c", Max: 1, After: 1, Text: "no", Busy: true},
			`[{"message":"no; try again in 1 s","extensions":{"code":"LIMIT_EXCEEDED","limit":"c","max":1,"retryAfter":1}}]`, 503, "1",
		},
	} {
		h := http.Header{}
		if got := string(test.e.GraphQL()); got != test.json {
			t.Errorf("got  %s\nwant %s", got, test.json)
		}
		if got := test.e.Header(h); got != test.status || h.Get("Retry-After") != test.after {
			t.Errorf("%s: %d %v", test.e.Limit, got, h)
		}
	}
}
