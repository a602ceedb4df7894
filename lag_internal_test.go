package notifyql

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/notifyql/notifyql/internal/change"
)

// read is the histogram as it is scraped.
func read(t *testing.T, l *lags) *dto.Histogram {
	t.Helper()
	var m dto.Metric
	if err := l.metric(prometheus.NewDesc("x", "", nil, nil)).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Histogram
}

func TestLags(t *testing.T) {
	var l lags
	for _, micros := range []int64{-5, 0, 1000, 1001, 40_000, 31_000_000} {
		l.observe(micros)
	}
	h := read(t, &l)
	want := map[float64]uint64{0.001: 3, 0.0025: 4, 0.025: 4, 0.05: 5, 30: 5}
	for _, b := range h.Bucket {
		if n, ok := want[b.GetUpperBound()]; ok && n != b.GetCumulativeCount() {
			t.Errorf("up to %v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), n)
		}
	}
	if h.GetSampleCount() != 6 || h.GetSampleSum() != 31.042001 {
		t.Errorf("%v", h)
	}
}

// The longest lag is forgotten after a while, and not before.
func TestTheLongestLag(t *testing.T) {
	var l lags
	began := time.Unix(1_000_000, 0) // the beginning of a window
	after := func(s int, lag time.Duration) {
		now := began.Add(time.Duration(s) * time.Second)
		l.changed(now, &change.Txn{Changes: []change.Change{{At: now.Add(-time.Hour)}, {At: now.Add(-lag)}}})
	}
	want := func(s int, lag time.Duration) {
		t.Helper()
		if got := l.recent(began.Add(time.Duration(s) * time.Second)); got != lag.Microseconds() {
			t.Errorf("after %d s: %d µs, want %v", s, got, lag)
		}
	}
	want(0, 0)
	after(1, 5*time.Millisecond)
	after(2, 3*time.Millisecond)
	want(9, 5*time.Millisecond)
	want(19, 5*time.Millisecond)
	want(20, 0)
	after(11, time.Millisecond)
	want(12, 5*time.Millisecond)
	after(21, time.Millisecond)
	want(21, time.Millisecond)
	after(99, 2*time.Millisecond)
	want(99, 2*time.Millisecond)
	l.changed(began, &change.Txn{Changes: []change.Change{{}}}) // of no known time
	l.changed(began.Add(99*time.Second), &change.Txn{Stub: &change.Stub{LastAt: began.Add(98 * time.Second)}})
	want(99, time.Second)
}

type timedReader struct{ reader }

func (timedReader) Oldest() int64 { return 1 }
func (timedReader) Close()        {}

// Measuring costs no memory.
func TestMeasuringAllocatesNothing(t *testing.T) {
	var l lags
	c := &counted{Stream: live{reader: timedReader{}, lags: &l}}
	now, txn := time.Now(), &change.Txn{Changes: []change.Change{{At: time.Now()}}}
	if n := testing.AllocsPerRun(1000, func() { c.Written(now); l.changed(now, txn) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLag(b *testing.B) {
	var l lags
	c := &counted{Stream: live{reader: timedReader{}, lags: &l}}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		c.Written(now)
	}
}
