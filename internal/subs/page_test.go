package subs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// log is a History of one transaction.
type log struct {
	mu    sync.Mutex
	cs    []change.Change
	reads int
	fail  int // so many reads fail
	gone  bool
}

func (l *log) Txn(_ context.Context, _ change.XID, after *change.Change, stub *change.Stub, topics []change.Topic, _ []string, limit int) ([]change.Change, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.gone {
		return nil, false, fmt.Errorf("page: %w", change.ErrDropped)
	}
	if l.fail > 0 {
		l.fail--
		return nil, false, errors.New("the database is away")
	}
	from := stub.AfterSeq
	if after != nil {
		from = after.Seq
	}
	var page []change.Change
	for _, c := range l.cs {
		if c.Seq <= from || !slices.Contains(topics, c.Topic) {
			continue
		}
		if len(page) == limit {
			return page, true, nil
		}
		page = append(page, c)
	}
	return page, false, nil
}

func large(n int) *log {
	l := &log{}
	for i := range n {
		c := insert(9, "a", i)
		c.Seq = int64(i + 1)
		l.cs = append(l.cs, c)
	}
	return l
}

func stub(scopes ...change.Scope) []change.Txn {
	return []change.Txn{{XID: 9, Stub: &change.Stub{Scopes: scopes}}}
}

func TestALargeTransactionIsReadInPages(t *testing.T) {
	l := large(1000)
	h := newHub(t, Options{PageRows: 64, History: l})
	c := attach(t, h, &numbers{topic: orders, low: 100}, who("a"))
	h.Dispatch(txn(insert(8, "a", 5000)), nil)
	h.Dispatch(stub(change.Scope{Topic: orders, Tenant: "a"}), nil)
	h.Dispatch(txn(insert(10, "a", 6000)), nil)
	got := c.take(t, 902)
	want := []string{"1:->5000"}
	for i := 100; i < 1000; i++ {
		want = append(want, fmt.Sprintf("1:->%d", i))
	}
	equal(t, got, append(want, "1:->6000")...)
	c.nothing(t)
}

func TestAGroupSharesThePagesItReadsTogether(t *testing.T) {
	l := large(256)
	h := newHub(t, Options{PageRows: 64, History: l})
	var cs []*client
	for range 20 {
		cs = append(cs, attach(t, h, &numbers{topic: orders}, who("a")))
	}
	h.Dispatch(stub(), nil)
	for range 4 {
		for _, c := range cs {
			c.take(t, 64)
		}
	}
	for _, c := range cs {
		c.nothing(t)
	}
	if l.reads > 5 {
		t.Fatalf("%d reads of 4 pages", l.reads)
	}
}

// Readers at more places than pages are kept for still get on.
func TestReadersFarApartAllArrive(t *testing.T) {
	h := newHub(t, Options{PageRows: 8, History: large(400)})
	var wg sync.WaitGroup
	var cs []*client
	for range 12 {
		cs = append(cs, attach(t, h, &numbers{topic: orders}, who("a")))
	}
	h.Dispatch(stub(), nil)
	for i, c := range cs {
		wg.Go(func() {
			c.take(t, i*30)
			c.take(t, 400-i*30)
		})
	}
	wg.Wait()
}

func TestAStubThatDoesNotConcernIsPassed(t *testing.T) {
	l := large(10)
	h := newHub(t, Options{History: l})
	b := attach(t, h, &numbers{topic: orders}, who("b"))
	h.Dispatch(stub(change.Scope{Topic: orders, Tenant: "a"}), nil)
	h.Dispatch(txn(insert(10, "b", 1)), nil)
	equal(t, b.take(t, 1), "1:->1")
	if l.reads != 0 {
		t.Fatalf("%d reads for nobody", l.reads)
	}
}

func TestAFailedReadIsTriedAgain(t *testing.T) {
	l := large(3)
	l.fail = 2
	h := newHub(t, Options{History: l})
	c := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(stub(), nil)
	equal(t, c.take(t, 3), "1:->0", "1:->1", "1:->2")
}

func TestCloseWhileALargeTransactionIsRead(t *testing.T) {
	l := large(3)
	l.fail = 1 << 30
	h := New(Options{History: l})
	c := attach(t, h, &numbers{topic: orders}, who("a"))
	h.Dispatch(stub(), nil)
	c.nothing(t)
	c.Close()
	h.Close()
}

// What the log has dropped before it was read ends who was to get it, once he has got what came before. Others go on.
func TestAPageThatIsGoneEndsItsReaders(t *testing.T) {
	l := large(30)
	h := newHub(t, Options{PageRows: 10, History: l})
	c := attach(t, h, &numbers{topic: orders}, who("a"))
	other := attach(t, h, &numbers{topic: orders}, who("b"))
	h.Dispatch(inserts(8, 1, 2), nil)
	h.Dispatch(stub(change.Scope{Topic: orders, Tenant: "a"}), nil)
	h.Dispatch(inserts(10, 2, 3), nil)
	c.take(t, 11)
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	for {
		frames, err := c.Next(nil, 100)
		if err != nil {
			if !errors.Is(err, change.ErrDropped) {
				t.Errorf("it ends with %v", err)
			}
			break
		}
		if len(frames) > 0 { // the page that was read before
			continue
		}
		<-c.woken
	}
	if _, err := c.Next(nil, 1); !errors.Is(err, change.ErrDropped) {
		t.Errorf("and then with %v", err)
	}
	h.Dispatch(txn(insert(11, "b", 3)), nil)
	equal(t, other.take(t, 1), "1:->3")
}

func (l *log) Since(context.Context, change.Cursor, change.Cursor, []change.Topic, []string, int) (change.Page, error) {
	return change.Page{}, change.ErrCursorInvalid
}

func (l *log) Rows(context.Context, *change.Query, int, func([]change.Change) error) (change.Cursor, error) {
	return change.Cursor{}, change.ErrUnreadable
}
