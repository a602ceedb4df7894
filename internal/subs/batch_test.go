package subs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// inserts is a transaction of them, numbered.
func inserts(xid change.XID, from, to int) []change.Txn {
	t := change.Txn{XID: xid}
	for n := from; n < to; n++ {
		c := insert(xid, "a", n)
		c.Seq = int64(n)
		t.Changes = append(t.Changes, c)
	}
	return []change.Txn{t}
}

func TestABatchIsAWholeTransaction(t *testing.T) {
	h := newHub(t, Options{})
	c := attach(t, h, &batches{numbers{topic: orders, low: 2}}, who("a"))
	single := attach(t, h, &numbers{topic: orders, low: 2}, who("a"))

	h.Dispatch(inserts(1, 0, 3), nil)
	if !h.Unsettled() {
		t.Error("nobody waits for the transaction's end")
	}
	c.nothing(t) // more of it may come
	equal(t, single.take(t, 1), "1:->2")
	h.Dispatch(inserts(1, 3, 5), nil)
	if !h.Unsettled() {
		t.Error("nobody waits for the transaction's end")
	}
	h.Settle()
	equal(t, c.take(t, 1), "1:->2 1:->3 1:->4 ")

	h.Dispatch(inserts(2, 5, 7), nil)
	h.Dispatch(inserts(3, 0, 1), nil) // of which nothing matches: it still says that the one before is complete
	equal(t, c.take(t, 1), "1:->5 1:->6 ")
	h.Dispatch(inserts(4, 0, 1), nil)
	if h.Unsettled() {
		t.Error("somebody waits for the end of what concerns nobody")
	}
	h.Settle()
	c.nothing(t)
}

func TestALargeTransactionComesInPartsThatSaySo(t *testing.T) {
	h := newHub(t, Options{})
	c := attach(t, h, &batches{numbers{topic: orders}}, who("a"))
	h.Dispatch(inserts(1, 0, batchChanges+1), nil)
	h.Settle()
	got := c.take(t, 2)
	if n := strings.Count(got[0], "1:->"); n != batchChanges || !strings.HasSuffix(got[0], "…") {
		t.Errorf("the first part has %d changes and ends in %q", n, got[0][len(got[0])-8:])
	}
	if got[1] != fmt.Sprintf("1:->%d ", batchChanges) {
		t.Errorf("the second part is %q", got[1])
	}
}

func TestABatchGoesOnInTheLog(t *testing.T) {
	l := large(100)
	h := newHub(t, Options{PageRows: 40, History: l})
	c := attach(t, h, &batches{numbers{topic: orders, low: 98}}, who("a"))
	none := attach(t, h, &batches{numbers{topic: orders, low: 99}}, who("a"))
	cs := inserts(9, 98, 100)
	h.Dispatch(cs, nil)
	h.Dispatch([]change.Txn{{XID: 9, Continued: true, Stub: &change.Stub{AfterSeq: 99}}}, nil)
	equal(t, c.take(t, 2), "1:->98 1:->99 …", "1:->99 ")
	equal(t, none.take(t, 2), "1:->99 …", "1:->99 ")
	h.Dispatch(inserts(10, 200, 201), nil)
	h.Settle()
	equal(t, c.take(t, 1), "1:->200 ")
}

func TestTheLastPageSaysThatTheTransactionIsComplete(t *testing.T) {
	l := large(100)
	h := newHub(t, Options{PageRows: 40, History: l})
	c := attach(t, h, &batches{numbers{topic: orders, low: 1000}}, who("a"))
	h.Dispatch(inserts(9, 1000, 1001), nil)
	h.Dispatch([]change.Txn{{XID: 9, Continued: true, Stub: &change.Stub{}}}, nil)
	equal(t, c.take(t, 2), "1:->1000 …", "")
}

func TestALargeTransactionOfWhichNothingMatchesIsNoMessage(t *testing.T) {
	h := newHub(t, Options{PageRows: 40, History: large(100)})
	c := attach(t, h, &batches{numbers{topic: orders, low: 1000}}, who("a"))
	first := attach(t, h, &batches{numbers{topic: orders, low: 60}}, who("a")) // nothing on the first page
	h.Dispatch(stub(), nil)
	h.Dispatch(inserts(10, 1000, 1001), nil)
	h.Settle()
	equal(t, c.take(t, 1), "1:->1000 ")
	if got := first.take(t, 3); !strings.HasPrefix(got[0], "1:->60 ") || !strings.HasSuffix(got[0], "…") || !strings.HasSuffix(got[1], "1:->99 ") {
		t.Errorf("got %q", got)
	}
}
