package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/notifyql/notifyql/internal/ws"
)

// Each event is one message to each socket; under load, perBatch of them wait at a time. The bare loops write the same
// bytes to the same sockets, one after the other: raw, framed beforehand, to the net.Conn; loop, through the Socket.
const (
	perBatch = 16
	rounds   = 10
)

var phases = []struct {
	name string
	per  int
}{
	{"raw", 1}, {"loop", 1}, {"ours", 1}, {"raw", perBatch}, {"loop", perBatch}, {"ours", perBatch},
}

type delivered struct{ Messages, Seconds, CPU float64 }

// deliver measures n sockets, one phase after the other, in ten rounds: what else the machine does meanwhile meets all of them.
func deliver(n, seconds int) error {
	addr, stop, err := child("detached")
	if err != nil {
		return err
	}
	defer stop()
	clients, err := dialMany(addr, n)
	if err != nil {
		return err
	}
	for _, c := range clients {
		go discard(c)
	}
	var m memory
	for m.Streams < n {
		if err := ask(addr, "/memory", &m); err != nil {
			return err
		}
	}
	fmt.Printf("%d sockets, messages of about %d bytes\n\n%-16s %14s %14s %8s %8s\n", n, len(frame()), "", "messages/s", "CPU s/million", "of loop", "of raw")
	sums := make([]delivered, len(phases))
	for range rounds {
		for i, p := range phases {
			var d delivered
			if err := ask(addr, fmt.Sprintf("/deliver?mode=%s&per=%d&milliseconds=%d", p.name, p.per, seconds*1000/rounds), &d); err != nil {
				return err
			}
			sums[i].Messages += d.Messages
			sums[i].Seconds += d.Seconds
			sums[i].CPU += d.CPU
		}
	}
	for i, p := range phases {
		rate := sums[i].Messages / sums[i].Seconds
		raw, loop := sums[i-i%3], sums[i-i%3+1]
		fmt.Printf("%-4s %2d at once %15.0f %14.2f %8.2f %8.2f\n", p.name, p.per, rate, sums[i].CPU/sums[i].Messages*1e6,
			rate/(loop.Messages/loop.Seconds), rate/(raw.Messages/raw.Seconds))
	}
	return nil
}

func discard(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

const subscriptionID = "6b0a1a34-8d9b-4a4e-9a57-1a4ad3a07ab4"

// message is what a bare loop writes: what ours writes for a result.
func message() []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"next","payload":%s}`, subscriptionID, result)
}

// frame is the message as it is on the wire.
func frame() []byte {
	m := message()
	return append([]byte{0x81, 126, byte(len(m) >> 8), byte(len(m))}, m...)
}

func (n *node) deliver(w http.ResponseWriter, r *http.Request) {
	per, _ := strconv.Atoi(r.FormValue("per"))
	milliseconds, _ := strconv.Atoi(r.FormValue("milliseconds"))
	round := map[string]func(int){"raw": n.raw, "loop": n.loop, "ours": n.ours}[r.FormValue("mode")]
	round(per)
	cpu, begin, sent := cpuTime(), time.Now(), 0
	for time.Since(begin) < time.Duration(milliseconds)*time.Millisecond {
		round(per)
		sent += per * len(n.sockets)
	}
	took := time.Since(begin).Seconds()
	_ = json.NewEncoder(w).Encode(delivered{float64(sent), took, cpuTime() - cpu})
}

func (n *node) raw(per int) {
	var b []byte
	for range per {
		b = append(b, frame()...)
	}
	for _, c := range n.conns {
		_, _ = c.Write(b)
	}
}

func (n *node) loop(per int) {
	messages := make([][]byte, per)
	for i := range messages {
		messages[i] = message()
	}
	for _, s := range n.sockets {
		_ = s.Write(context.Background(), messages...)
	}
}

// ours publishes, and waits until all is written.
func (n *node) ours(per int) {
	n.pending.Add(per * len(n.streams))
	for _, s := range n.streams {
		s.add(per)
	}
	n.pending.Wait()
}

// counted tells the node how many messages have been written.
type counted struct {
	ws.Socket
	n *node
}

func (c counted) Write(ctx context.Context, messages ...[]byte) error {
	err := c.Socket.Write(ctx, messages...)
	for _, m := range messages {
		if len(m) > len(result) {
			c.n.pending.Done()
		}
	}
	return err
}

func cpuTime() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
