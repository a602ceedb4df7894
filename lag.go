package notifyql

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/notifyql/notifyql/internal/change"
)

// lagBounds are the buckets' upper bounds, in seconds.
var lagBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// lagWindow is how long the longest lag is remembered, and up to as long again.
const lagWindow = 10 * time.Second

// lags is a histogram of how long changes took from when they were written, by the database's clock, to something, by ours. Observing costs a
// few additions and no lock.
type lags struct {
	buckets [len(lagBounds) + 1]atomic.Int64
	micros  atomic.Int64

	window  atomic.Int64 // which of the windows is the present one
	longest [2]atomic.Int64
}

// observe counts a lag, in microseconds. The clocks may differ: none is below zero.
func (l *lags) observe(micros int64) {
	micros = max(micros, 0)
	l.micros.Add(micros)
	i := 0
	for seconds := float64(micros) / 1e6; i < len(lagBounds) && seconds > lagBounds[i]; {
		i++
	}
	l.buckets[i].Add(1)
}

// changed counts a transaction's last change. It is not called at the same time.
func (l *lags) changed(now time.Time, t *change.Txn) {
	at := time.Time{}
	switch {
	case len(t.Changes) > 0:
		at = t.Changes[len(t.Changes)-1].At
	case t.Stub != nil:
		at = t.Stub.LastAt
	}
	if at.IsZero() {
		return
	}
	micros := now.Sub(at).Microseconds()
	l.observe(micros)
	window := now.UnixNano() / int64(lagWindow)
	if was := l.window.Swap(window); was != window {
		if window != was+1 {
			l.longest[(window-1)&1].Store(0)
		}
		l.longest[window&1].Store(0)
	}
	if longest := &l.longest[window&1]; longest.Load() < micros {
		longest.Store(micros)
	}
}

// recent is the longest of the last windows, in microseconds.
func (l *lags) recent(now time.Time) int64 {
	window := now.UnixNano() / int64(lagWindow)
	switch l.window.Load() {
	case window:
		return max(l.longest[0].Load(), l.longest[1].Load())
	case window - 1:
		return l.longest[(window-1)&1].Load()
	}
	return 0
}

// kinds counts changes by what happened.
type kinds [len(kindNames)]atomic.Int64

var kindNames = [...]string{"insert", "update", "delete", "truncate", "event", "large"}

// count counts a transaction's changes. It is not called at the same time.
func (k *kinds) count(t *change.Txn) {
	if t.Stub != nil {
		k[5].Add(1)
		return
	}
	var n [5]int64
	for i := range t.Changes {
		switch t.Changes[i].Op {
		case change.Insert:
			n[0]++
		case change.Update:
			n[1]++
		case change.Delete:
			n[2]++
		case change.Truncate:
			n[3]++
		case change.Event:
			n[4]++
		}
	}
	for i := range n {
		if n[i] > 0 {
			k[i].Add(n[i])
		}
	}
}

// metric is the histogram for Prometheus.
func (l *lags) metric(desc *prometheus.Desc) prometheus.Metric {
	buckets := make(map[float64]uint64, len(lagBounds))
	count := uint64(0)
	for i := range l.buckets {
		count += uint64(l.buckets[i].Load())
		if i < len(lagBounds) {
			buckets[lagBounds[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, float64(l.micros.Load())/1e6, buckets)
}
