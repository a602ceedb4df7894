package feed

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
)

// TestEverySchedule explores all interleavings of small worlds with the real machine, rather than random ones of larger
// worlds. From each state in which nothing must happen any more, things are let come to rest, and nothing may be left over.
func TestEverySchedule(t *testing.T) {
	t.Parallel()
	in := func(ops ...op) plan { return plan{ops: ops} }
	a, b := op{inline, 0}, op{inline, 1}
	for _, c := range []struct {
		name    string
		writers []writer
		faults  budget
	}{
		{"two writers of one row", []writer{{plans: []plan{in(a)}}, {plans: []plan{in(a)}}}, budget{drops: 2}},
		{"parts of a transaction", []writer{{plans: []plan{in(a, b)}}, {plans: []plan{in(b)}}}, budget{beats: 1}},
		{"a marker inside of a transaction", []writer{{plans: []plan{in(a, op{large, 1}, a)}}, {plans: []plan{in(b)}}}, budget{drops: 1, failures: 1}},
		{"markers only, a failing sweep", []writer{{plans: []plan{in(op{large, 0})}}, {plans: []plan{in(a)}}}, budget{drops: 1, failures: 1}},
		{"half-open", []writer{{plans: []plan{in(a)}}, {plans: []plan{in(a)}}}, budget{deaths: 1, beats: 2}},
		{"a stub begun by notifications", []writer{{plans: []plan{{ops: []op{a, {nested, 1}}, stub: true}}}, {plans: []plan{in(a)}}}, budget{beats: 1}},
		{"three writers", []writer{{plans: []plan{in(a)}}, {plans: []plan{in(b)}}, {plans: []plan{in(a)}}}, budget{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			states, ends, err := explore(newSim(New(), c.writers, c.faults))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states, %d ends", states, ends)
		})
	}
}

// explore visits every state that can come of s.
func explore(s *sim) (states, ends int, err error) {
	var (
		seen  = map[[2]uint64]struct{}{}
		seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
		stack = []*sim{s}
		buf   []byte
	)
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		must := false
		for _, mv := range s.moves(nil) {
			must = must || mv.kind >= 'a'
			n := s.clone()
			n.do(mv)
			if n.err != nil {
				return len(seen), ends, n.err
			}
			buf = n.key(buf[:0])
			k := [2]uint64{maphash.Bytes(seeds[0], buf), maphash.Bytes(seeds[1], buf)}
			if _, ok := seen[k]; !ok {
				seen[k] = struct{}{}
				stack = append(stack, n)
			}
		}
		if !must {
			ends++
			n := s.clone()
			if n.settle(); n.err != nil {
				return len(seen), ends, n.err
			}
		}
	}
	return len(seen), ends, nil
}

func (s *sim) clone() *sim {
	c := *s
	m := *machineOf(s.m)
	m.f = m.f.Clone()
	m.held = slices.Clone(m.held)
	m.late, m.sweep.found = maps.Clone(m.late), maps.Clone(m.sweep.found)
	c.m = &m
	c.running, c.log, c.ends, c.queue = slices.Clone(s.running), slices.Clone(s.log), slices.Clone(s.ends), slices.Clone(s.queue)
	c.txs = slices.Clone(s.txs)
	for i := range c.txs {
		c.txs[i].seqs, c.txs[i].notices = slices.Clone(s.txs[i].seqs), slices.Clone(s.txs[i].notices)
	}
	c.writers = slices.Clone(s.writers)
	for i := range c.writers {
		c.writers[i].saved = slices.Clone(s.writers[i].saved)
	}
	c.oracle.got = slices.Clone(s.oracle.got)
	c.sweep.txns = slices.Clone(s.sweep.txns)
	return &c
}

// key tells states apart: all of them that matters for what can come.
func (s *sim) key(b []byte) []byte {
	num := func(ns ...int) {
		for _, n := range ns {
			b = binary.AppendVarint(b, int64(n))
		}
	}
	flag := func(fs ...bool) {
		for _, f := range fs {
			if f {
				num(1)
			} else {
				num(0)
			}
		}
	}
	xids := func(xs []change.XID) {
		num(len(xs))
		for _, x := range xs {
			num(int(x))
		}
	}
	snap := func(s change.Snapshot) { num(int(s.Xmax)); xids(s.Xip) }
	frontier := func(f *change.Frontier) {
		snap(f.Snapshot)
		xids(f.Done())
		x, seq := f.Open()
		num(int(x), int(seq))
	}
	set := func(m map[change.XID]struct{}) { xids(slices.Sorted(maps.Keys(m))) }

	num(int(s.next), int(s.completed), s.notifier, len(s.txs), len(s.log))
	xids(s.running)
	for i := range s.txs {
		t := &s.txs[i]
		num(int(t.state), t.first, len(t.seqs), len(t.notices))
		for _, seq := range t.seqs {
			num(int(seq))
		}
	}
	for _, i := range s.ends {
		num(i)
	}
	num(len(s.queue))
	for _, i := range s.queue {
		num(i)
	}
	for _, w := range s.writers {
		num(w.done, w.tx, w.pc)
		flag(w.lost)
	}

	num(int(s.conn), s.pos, s.sub, s.sweep.id)
	flag(s.dead, s.reopen, s.sweep.read, s.beatRead)
	snap(s.sweep.snap)
	frontier(&s.sweep.from)
	for _, t := range s.sweep.txns {
		num(int(t.XID))
	}
	if s.beatRead {
		num(int(s.beat.LastSeq))
		snap(s.beat.Snapshot)
	}
	num(int(s.now.Sub(s.received)), s.faults.drops, s.faults.deaths, s.faults.failures, s.faults.beats)

	o := &s.oracle
	num(o.part, o.ver[0], o.ver[1], o.ver[2], len(o.got))
	for _, n := range o.got {
		num(n)
	}

	m := machineOf(s.m)
	frontier(&m.f)
	flag(m.started, m.up, m.debt, m.sweep.barrier, m.sweep.void, m.sweep.watch, m.heard, m.reopening)
	set(m.late)
	set(m.sweep.found)
	num(len(m.held), m.sweep.id, int(m.sweep.open), int(m.lastSeq), int(m.sweptSeq), int(m.sweep.lastSeq))
	num(int(s.now.Sub(m.sweptAt)), int(s.now.Sub(m.sweep.began)), int(s.now.Sub(m.lateSince)))
	for _, n := range m.held {
		num(int(n.Change.XID), int(n.Change.Seq))
	}
	return b
}
