package bustest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/notifyql/notifyql/bus"
)

// patience is after how long what must happen has not happened. What an adapter promises takes a few seconds at most; the
// rest is for a machine that is busy.
var patience = 30 * time.Second

// notice is after how long a connection that is dead without a word has to be noticed: "a few seconds".
const notice = 10 * time.Second

type suite struct {
	*testing.T
	broker Broker
}

// node is a server of the suite.
type node struct {
	Node
	s *suite
}

func (s *suite) join(opts ...Options) *node { return s.joinAs("suite", opts...) }

func (s *suite) joinAs(name string, opts ...Options) *node {
	s.Helper()
	n := &node{Node: s.broker.Join(s, name, append(opts, Options{})[0]), s: s}
	s.Cleanup(func() {
		if err := n.Close(); err != nil {
			s.Errorf("closing %s: %v", n, err)
		}
	})
	return n
}

// speaks looks at an error's words. A log that says what is wrong once, until it is over, takes each other text for another
// thing; so a port of ours, which is another at each try, may not be in it.
func (s *suite) speaks(err error) {
	s.Helper()
	if err != nil && strings.Contains(err.Error(), "->") {
		s.Errorf("an error names our own port: %v", err)
	}
}

// id is what tells one record from all others of a test.
type id struct {
	appender byte
	number   uint32
}

const header = 8 // bytes of a record before its noise

var noise = func() []byte {
	b := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{}).Read(b) // it returns no error
	return b
}()

// record makes the record of an id, with size bytes.
func record(i id, size int) []byte {
	b := make([]byte, size)
	b[0] = i.appender
	binary.BigEndian.PutUint32(b[4:], i.number)
	copy(b[header:], noise[i.number%1024:])
	return b
}

func parse(b []byte) (id, error) {
	if len(b) < header {
		return id{}, fmt.Errorf("a record of %d bytes, which nobody appended", len(b))
	}
	i := id{b[0], binary.BigEndian.Uint32(b[4:])}
	if !bytes.Equal(b, record(i, len(b))) {
		return id{}, fmt.Errorf("a record of %d bytes came otherwise than it was appended", len(b))
	}
	return i, nil
}

// tryAppend appends one record.
func (n *node) tryAppend(i id, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b := record(i, size)
	err := n.Append(ctx, b)
	clear(b) // it may keep no reference
	n.s.speaks(err)
	if err != nil && ctx.Err() != nil {
		n.s.Errorf("Append took more than %v to say %v", patience, err)
	}
	return err
}

// append appends the records from number on.
func (n *node) append(appender byte, from, count, size int) {
	n.s.Helper()
	for i := range count {
		if err := n.tryAppend(id{appender, uint32(from + i)}, size); err != nil {
			n.s.Fatalf("Append of %d bytes: %v", size, err)
		}
	}
}

// reader is a bus.Reader that says which records it read.
type reader struct {
	bus.Reader
	s      *suite
	got    []id // each once, in the order in which they came first
	seen   map[id]bool
	last   map[byte]uint32 // of each appender
	closed bool
}

func (n *node) tryOpen() (*reader, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := n.Open(ctx)
	n.s.speaks(err)
	if err != nil {
		if ctx.Err() != nil {
			n.s.Errorf("Open took more than %v to say %v", patience, err)
		}
		return nil, err
	}
	opened := &reader{Reader: r, s: n.s, seen: map[id]bool{}, last: map[byte]uint32{}}
	n.s.Cleanup(opened.close)
	return opened, nil
}

func (n *node) open() *reader {
	n.s.Helper()
	r, err := n.tryOpen()
	if err != nil {
		n.s.Fatalf("Open: %v", err)
	}
	return r
}

func (r *reader) close() {
	if !r.closed {
		r.closed = true
		r.Close()
	}
}

var errPassedOver = errors.New("records were passed over without an error")

// once reads once. Records may come again, from an earlier one on, but none may be passed over.
func (r *reader) once(ctx context.Context) error {
	records, err := r.Read(ctx)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("Read returned neither a record nor an error")
	}
	for _, b := range records {
		i, err := parse(b)
		if err != nil {
			return err
		}
		if last, ok := r.last[i.appender]; ok && i.number > last+1 {
			return fmt.Errorf("%w: after %d came %d", errPassedOver, last, i.number)
		}
		r.last[i.appender] = i.number
		if !r.seen[i] {
			r.seen[i] = true
			r.got = append(r.got, i)
		}
	}
	return nil
}

// until reads until it has read a record.
func (r *reader) until(i id) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !r.seen[i] {
		if err := r.once(ctx); err != nil {
			return fmt.Errorf("waiting for record %d of appender %d, with %d read: %w", i.number, i.appender, len(r.got), err)
		}
	}
	return nil
}

// mustRead reads what an appender appended, from one number up to another, that one left out: it has come, in order.
func (r *reader) mustRead(appender byte, from, to int) {
	r.s.Helper()
	if err := r.until(id{appender, uint32(to - 1)}); err != nil {
		r.s.Fatal(err)
	}
	for i := from; i < to; i++ {
		if !r.seen[id{appender, uint32(i)}] {
			r.s.Fatalf("record %d of appender %d was not read", i, appender)
		}
	}
}

// mustFail reads until an error says that the reader is over, and returns it.
func (r *reader) mustFail() error {
	r.s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := r.once(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			r.s.Fatalf("Read noticed nothing for %v", patience)
		}
		if errors.Is(err, errPassedOver) {
			r.s.Fatal(err)
		}
		r.s.speaks(err)
		return err
	}
}

// eventually tries until it works: a broker that has just come back may refuse somebody for a moment.
func (s *suite) eventually(what string, try func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			s.Fatalf("%s did not work for %v: %v", what, patience, err)
		}
	}
}

func (s *suite) eventuallyOpen(n *node) (r *reader) {
	s.Helper()
	s.eventually("Open", func() (err error) { r, err = n.tryOpen(); return err })
	return r
}

// eventuallyAppend appends one record that nobody has appended, from number on, and returns its number.
func (s *suite) eventuallyAppend(n *node, appender byte, number int) int {
	s.Helper()
	number--
	s.eventually("Append", func() error {
		number++
		return n.tryAppend(id{appender, uint32(number)}, 100)
	})
	return number
}

// all runs one function for each of several, at once, and waits for them.
func all[T any](s *suite, of []T, do func(T) error) {
	s.Helper()
	errs := make(chan error)
	for _, one := range of {
		go func() { errs <- do(one) }()
	}
	for range of {
		if err := <-errs; err != nil {
			s.Error(err)
		}
	}
	if s.Failed() {
		s.FailNow()
	}
}
