package pg

import (
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// watchHeap measures how large the heap gets. The function it returns ends that and gives the growth in bytes, what is not
// collected yet included.
func watchHeap(t testing.TB) (peak func() uint64) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	first := read()
	most := first
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, read())
			}
		}
	})
	return sync.OnceValue(func() uint64 {
		close(stop)
		watcher.Wait()
		return most - first
	})
}
