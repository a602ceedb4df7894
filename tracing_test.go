package notifyql

import (
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
	"github.com/notifyql/notifyql/internal/ws"
)

// still is a reader that gives one result each time.
type still struct{ result []byte }

func (s *still) Next(dst [][]byte, _ int) ([][]byte, error) { return append(dst, s.result), nil }
func (s *still) Progress() subs.Progress                    { return subs.Progress{} }
func (s *still) Trace() any                                 { return nil }
func (s *still) Oldest() int64                              { return 0 }
func (s *still) Close()                                     {}

// Without a provider, and with one that samples nothing, an event costs no memory.
func TestWhatIsNotTracedCostsNoMemory(t *testing.T) {
	for name, tr := range map[string]*tracer{"no provider": newTracer(nil), "nothing sampled": newTracer(noop.NewTracerProvider())} {
		st := ws.Stream(&counted{Stream: live{reader: &still{[]byte("{}")}}})
		dst, c := make([][]byte, 0, 16), &change.Change{XID: 7}
		taken := testing.AllocsPerRun(1000, func() {
			tr.receive()
			if tr != nil {
				tr.last = tr.received // nothing more may be offered now
				if tr.pass(c) != nil {
					t.Fatal("it is traced")
				}
			}
			tr.dispatched()
			var err error
			if dst, err = st.Next(dst[:0], 16); err != nil {
				t.Fatal(err)
			}
			if written := st.(ws.Traced).Taken(); written != nil {
				t.Fatal("it is traced")
			}
		})
		if taken != 0 {
			t.Errorf("%s: %v allocations an event", name, taken)
		}
	}
}
