package feed

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/mvcctest"
)

// TestEverySchedule explores all interleavings of small worlds with the real machine, rather than random ones of larger
// worlds. From each state in which nothing must happen any more, things are let come to rest, and nothing may be left over.
func TestEverySchedule(t *testing.T) {
	t.Parallel()
	type (
		op     = mvcctest.Op
		plan   = mvcctest.Plan
		writer = mvcctest.Writer
	)
	in := func(ops ...op) plan { return plan{Ops: ops} }
	a, b := op{Kind: mvcctest.Inline, Row: 0}, op{Kind: mvcctest.Inline, Row: 1}
	for _, c := range []struct {
		name    string
		writers []writer
		faults  budget
	}{
		{"two writers of one row", []writer{{Plans: []plan{in(a)}}, {Plans: []plan{in(a)}}}, budget{drops: 2}},
		{"parts of a transaction", []writer{{Plans: []plan{in(a, b)}}, {Plans: []plan{in(b)}}}, budget{beats: 1}},
		{"a marker inside of a transaction", []writer{{Plans: []plan{in(a, op{Kind: mvcctest.Large, Row: 1}, a)}}, {Plans: []plan{in(b)}}}, budget{drops: 1, failures: 1}},
		{"markers only, a failing sweep", []writer{{Plans: []plan{in(op{Kind: mvcctest.Large, Row: 0})}}, {Plans: []plan{in(a)}}}, budget{drops: 1, failures: 1}},
		{"half-open", []writer{{Plans: []plan{in(a)}}, {Plans: []plan{in(a)}}}, budget{deaths: 1, beats: 2}},
		{"a stub begun by notifications", []writer{{Plans: []plan{{Ops: []op{a, {Kind: mvcctest.Nested, Row: 1}}, Stub: true}}}, {Plans: []plan{in(a)}}}, budget{beats: 1}},
		{"an emptied log", []writer{{Plans: []plan{in(a, b)}}, {Plans: []plan{in(b)}}}, budget{drops: 1, expiries: 1}},
		{"three writers", []writer{{Plans: []plan{in(a)}}, {Plans: []plan{in(b)}}, {Plans: []plan{in(a)}}}, budget{}},
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
func explore(s sim) (states, ends int, err error) {
	var (
		seen  = map[[2]uint64]struct{}{}
		seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
		stack = []sim{s}
		buf   []byte
	)
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		must := false
		endless := s.sweeps()
		for _, mv := range s.moves(nil) {
			must = must || mv.kind >= 'a' && !(endless && (mv.kind == mRead || mv.kind == mAnswer))
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

func (s sim) clone() sim {
	c := *s.node
	m := *machineOf(s.m)
	m.f = m.f.Clone()
	m.held = slices.Clone(m.held)
	m.late, m.sweep.found = maps.Clone(m.late), maps.Clone(m.sweep.found)
	c.m, c.w = &m, s.w.Clone()
	if mut, ok := s.m.(mutant); ok {
		c.m = mutant{&m, mut.bug}
	}
	c.oracle.got = slices.Clone(s.oracle.got)
	c.sweep.txns = slices.Clone(s.sweep.txns)
	return sim{&c}
}

// key tells states apart: all of them that matters for what can come.
func (s sim) key(b []byte) []byte {
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

	b = s.w.AppendKey(b)
	num(int(s.conn), s.pos, s.sub, machineOf(s.m).sweep.id-s.sweep.id)
	flag(s.sweep.id != 0, s.dead, s.reopen, s.sweep.read, s.sweep.late, s.beatRead, s.tried)
	snap(s.sweep.snap)
	frontier(&s.sweep.from)
	for _, t := range s.sweep.txns {
		num(int(t.XID))
	}
	if s.beatRead {
		num(int(s.beat.LastSeq), int(s.beat.Number))
		flag(s.beat.Free)
		snap(s.beat.Snapshot)
	}
	num(s.faults.drops, s.faults.deaths, s.faults.failures, s.faults.beats, s.faults.expiries)

	o := &s.oracle
	num(o.part, o.ver[0], o.ver[1], o.ver[2], len(o.got))
	for _, n := range o.got {
		num(n)
	}

	m := machineOf(s.m)
	frontier(&m.f)
	flag(m.started, m.up, m.debt, m.sweep.barrier, m.sweep.void, m.sweep.watch, m.reopening)
	set(m.late)
	set(m.sweep.found)
	num(len(m.held), int(m.sweep.open))
	if !s.coarse { // where hearts beat
		num(int(s.now.Sub(s.received)), int(m.lastSeq), int(m.sweptSeq), int(m.sweep.lastSeq))
		num(int(s.now.Sub(m.sweptAt)), int(s.now.Sub(m.sweep.began)), int(s.now.Sub(m.heard)))
	}
	num(int(m.mode), int(m.number)) // not how long sweeps wait: here there is no time
	flag(m.early != nil, m.behind)
	for _, n := range m.held {
		num(int(n.Change.XID), int(n.Change.Seq))
	}
	return b
}
