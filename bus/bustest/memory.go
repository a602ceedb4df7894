package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/notifyql/notifyql/bus"
)

// Memory is a broker in this process, with the faults that a real one has at the worst moment. Use NewMemory. Its methods
// may be called from any goroutine.
type Memory struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when anything changes
	life    int           // how often it was killed
	down    bool
	streams map[string]*kept
}

// kept is what the broker has of one stream. The records before first are gone.
type kept struct {
	records [][]byte
	first   int
	bytes   int64
}

// NewMemory returns a broker that runs.
func NewMemory() *Memory {
	return &Memory{changed: make(chan struct{}), streams: map[string]*kept{}}
}

// Broker returns m as the suite, and tests of nodes, take a broker.
func (m *Memory) Broker() Broker {
	return Broker{
		Join: func(_ testing.TB, name string, opts Options) Node {
			s := m.Join(name, opts)
			return Node{Stream: s, Cut: s.Cut, Swallow: s.Swallow, Heal: s.Heal}
		},
		Kill:  func(testing.TB) { m.Kill() },
		Start: func(testing.TB) { m.Start() },
	}
}

// Kill ends it: all connections are lost and all records are gone.
func (m *Memory) Kill() {
	m.change(func() { m.down, m.streams, m.life = true, map[string]*kept{}, m.life+1 })
}

// Start starts it again.
func (m *Memory) Start() { m.change(func() { m.down = false }) }

// change changes what m and its streams have, and tells who waits.
func (m *Memory) change(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
	close(m.changed)
	m.changed = make(chan struct{})
}

const (
	memoryMaxRecord = 512 << 10
	memoryKeep      = 64 << 20
	memoryRead      = 4 << 20                // bytes of one Read
	memoryNotices   = 100 * time.Millisecond // after which a dead connection is found dead
)

var (
	errMemoryGone = errors.New("memory broker: the connection is lost")
	errMemoryDead = errors.New("memory broker: the connection is dead")
)

// MemoryStream is one server's way to a stream of a Memory, a bus.Stream that can be disturbed.
type MemoryStream struct {
	broker *Memory
	name   string
	keep   int64

	// under the broker's mu
	cut     bool
	cuts    int // how often it was cut
	swallow int // how often what is under way was lost
	mute    bool
	unsure  int
	readers map[*memoryReader]bool
}

// Join returns one more server's way to the stream of this name.
func (m *Memory) Join(name string, opts Options) *MemoryStream {
	if opts.Keep == 0 {
		opts.Keep = memoryKeep
	}
	return &MemoryStream{broker: m, name: name, keep: opts.Keep, readers: map[*memoryReader]bool{}}
}

// Cut ends this server's connections, and refuses new ones until Heal.
func (s *MemoryStream) Cut() { s.broker.change(func() { s.cut, s.cuts = true, s.cuts+1 }) }

// Heal ends what Cut began.
func (s *MemoryStream) Heal() { s.broker.change(func() { s.cut = false }) }

// Swallow loses what is sent over this server's present connections, and tells nobody. It is noticed after a moment.
func (s *MemoryStream) Swallow() {
	s.broker.change(func() { s.swallow, s.mute = s.swallow+1, true })
}

// Drop lets this server's readers miss the next n records, each, without a word.
func (s *MemoryStream) Drop(n int) {
	s.broker.change(func() {
		for r := range s.readers {
			r.drop += n
		}
	})
}

// Repeat lets this server's readers read the last n records again, as far as they are kept.
func (s *MemoryStream) Repeat(n int) {
	s.broker.change(func() {
		for r := range s.readers {
			if k := s.broker.streams[s.name]; k != nil {
				r.next = max(r.next-n, k.first)
			}
		}
	})
}

// Unsure lets the next n calls of Append add the record and return an error.
func (s *MemoryStream) Unsure(n int) { s.broker.change(func() { s.unsure += n }) }

// Append adds a record.
func (s *MemoryStream) Append(ctx context.Context, record []byte) (err error) {
	if len(record) > memoryMaxRecord {
		return fmt.Errorf("memory broker: a record of %d bytes, of %d at most", len(record), memoryMaxRecord)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dead := false
	s.broker.change(func() {
		if s.broker.down || s.cut {
			err = errMemoryGone
			return
		}
		if dead, s.mute = s.mute, false; dead { // the next connection is a new one
			return
		}
		k := s.broker.kept(s.name)
		k.records = append(k.records, bytes.Clone(record))
		for k.bytes += int64(len(record)); k.bytes > s.keep && len(k.records) > 1; k.first++ {
			k.bytes -= int64(len(k.records[0]))
			k.records[0] = nil
			k.records = k.records[1:]
		}
		if s.unsure > 0 {
			s.unsure--
			err = errMemoryGone
		}
	})
	if dead {
		select {
		case <-time.After(memoryNotices):
			return errMemoryDead
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// kept returns the stream of a name. The caller holds mu.
func (m *Memory) kept(name string) *kept {
	k := m.streams[name]
	if k == nil {
		k = &kept{}
		m.streams[name] = k
	}
	return k
}

// memoryReader reads a MemoryStream. Its fields are under the broker's mu.
type memoryReader struct {
	stream        *MemoryStream
	life          int // of the broker, and
	cuts, swallow int // of the stream when it was opened
	next          int // the record to read
	drop          int
	err           error
}

// Open begins to read.
func (s *MemoryStream) Open(ctx context.Context) (bus.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	if s.broker.down || s.cut {
		return nil, errMemoryGone
	}
	k := s.broker.kept(s.name)
	r := &memoryReader{stream: s, life: s.broker.life, cuts: s.cuts, swallow: s.swallow, next: k.first + len(k.records)}
	s.readers[r] = true
	return r, nil
}

// Read returns what is there.
func (r *memoryReader) Read(ctx context.Context) ([][]byte, error) {
	for {
		records, dead, changed, err := r.take()
		if err != nil || len(records) > 0 {
			return records, err
		}
		var notice <-chan time.Time
		if dead {
			notice = time.After(memoryNotices)
		}
		select {
		case <-changed:
		case <-notice:
			return nil, r.end(errMemoryDead)
		case <-ctx.Done():
			return nil, r.end(ctx.Err())
		}
	}
}

// take takes what there is. Without any it says whether the connection is dead, and which channel is closed at a change.
func (r *memoryReader) take() (records [][]byte, dead bool, changed chan struct{}, err error) {
	m := r.stream.broker
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.err == nil && (m.life != r.life || r.cuts != r.stream.cuts) {
		r.err = errMemoryGone
	}
	if r.err != nil {
		return nil, false, nil, r.err
	}
	if r.swallow != r.stream.swallow {
		return nil, true, m.changed, nil
	}
	k := m.kept(r.stream.name)
	if r.next < k.first {
		r.err = bus.ErrGap
		return nil, false, nil, r.err
	}
	for size := 0; r.next-k.first < len(k.records); r.next++ {
		if r.drop > 0 {
			r.drop--
			continue
		}
		b := k.records[r.next-k.first]
		if size += len(b); size > memoryRead && len(records) > 0 {
			break
		}
		records = append(records, bytes.Clone(b))
	}
	return records, false, m.changed, nil
}

func (r *memoryReader) end(err error) error {
	r.stream.broker.mu.Lock()
	defer r.stream.broker.mu.Unlock()
	r.err = err
	return err
}

// Close ends it.
func (r *memoryReader) Close() {
	r.stream.broker.mu.Lock()
	defer r.stream.broker.mu.Unlock()
	delete(r.stream.readers, r)
}

// MaxRecord is how many bytes a record may have.
func (s *MemoryStream) MaxRecord() int { return memoryMaxRecord }

func (s *MemoryStream) String() string { return "the stream " + s.name + " in memory" }

// Close does nothing: there is nothing to release.
func (s *MemoryStream) Close() error { return nil }
