package notifyql_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/bus/bustest"
	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A server of the database that is killed and started again: all servers go on with what is committed then.
func TestRelayAcrossACrash(t *testing.T) {
	t.Parallel()
	pg := pgtest.Server(t, localpg.Options{})
	r := &relayed{db: pgtest.NewOn(t, pg), broker: bustest.NewMemory()}
	r.db.Exec(t, items)
	for range 2 {
		r.add(t)
	}
	r.follow(t)
	var subscribers []*follower
	for _, n := range r.nodes {
		f := &follower{t: t}
		f.follow(n.Server, "")
		subscribers = append(subscribers, f)
	}
	r.db.Exec(t, "insert into items values (1, 'a')")
	for _, f := range subscribers {
		f.want("INSERT 1.0")
	}
	if err := pg.Shutdown(context.WithoutCancel(t.Context()), localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	if err := pg.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 20; n++ {
		if _, err := r.db.Pool(t).Exec(t.Context(), "update items set version = $1", n); err != nil {
			n-- // the pool's connections are those of before
		}
	}
	for _, f := range subscribers {
		for n := 1; n <= 20; n++ {
			f.want(fmt.Sprintf("UPDATE 1.%d", n))
		}
	}
	r.follow(t)
}

// What the leader gives up because it is gone from the log is missing for all, and all say so.
func TestRelayOfDroppedChanges(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 2)
	r.follow(t)
	large := "notifyql.publish('c', to_jsonb(repeat('x', 9000)), shared => true)" // too large for a notification
	var streams []*notifyql.Stream
	for _, n := range r.nodes {
		stream, err := n.Subscribe(t.Context(), notifyql.Request{Query: anything})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() }) //nolint:errcheck // it has served
		streams = append(streams, stream)
	}
	r.db.Exec(t, "begin; select "+large+"; update notifyql.retention set dropped = pg_current_xact_id(); commit")
	for i, stream := range streams {
		_, err := stream.Next(t.Context())
		var refused *notifyql.RequestError
		if !errors.As(err, &refused) || !strings.Contains(string(refused.Errors), `"code":"CURSOR_EXPIRED"`) {
			t.Errorf("at node %d it ended with %v", i, err)
		}
	}
}

// Who can write to the stream can neither show anything to anybody nor keep anything from anybody.
func TestForgedRecordsHarmNobody(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 2)
	r.follow(t)
	stranger := r.broker.Join("notifyql", bustest.Options{})
	reader, err := stranger.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	const rows, last = 6, 40
	judges := []*judge{r.judge(t, r.nodes[0], "the first", rows, last), r.judge(t, r.nodes[1], "the second", rows, last)}
	stop, forging := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(forging)
		kept := [][]byte{}
		for own := map[string]bool{}; ; {
			records, err := reader.Read(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
			for _, record := range records {
				if own[string(record)] {
					continue
				}
				kept = append(kept, bytes.Clone(record))
				forged := bytes.Clone(record)
				switch len(kept) % 4 {
				case 0: // again what was appended before
					forged = bytes.Clone(kept[len(kept)/2])
				case 1: // the next one
					binary.BigEndian.PutUint64(forged[25:], binary.BigEndian.Uint64(forged[25:])+1)
				case 2:
					forged = forged[:len(forged)/2]
				case 3:
					forged[0]++
				}
				own[string(forged)] = true
				if err := stranger.Append(t.Context(), forged); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	r.write(t, 2, rows, last, nil)
	for _, j := range judges {
		<-j.done
	}
	close(stop)
	<-forging
	for _, n := range r.nodes {
		if why := n.Health().Problems["bus"]; !strings.Contains(why, "stream") {
			t.Errorf("nobody is told: %q", why)
		}
	}
}

// A change is few records: at rest only signs of life are appended.
func TestRelayRests(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, 1)
	r.follow(t)
	reader, err := r.broker.Join("notifyql", bustest.Options{}).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r.db.Exec(t, "insert into items values (1, 'a', 1)")
	const empty = 49
	for said, alive := 0, 0; alive < 5; {
		records, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if len(record) == empty {
				alive++
				continue
			}
			if said, alive = said+1, 0; said > 10 {
				t.Fatal("it goes on and on")
			}
		}
	}
}
