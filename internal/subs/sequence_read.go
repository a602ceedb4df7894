package subs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/notifyql/notifyql/internal/change"
)

// begin finds out the keys at a place, for the reader that begins there.
func (s *Sequence) begin(at change.Cursor) {
	s.read(func(ctx context.Context) (*turn, error) {
		found, err := s.hub.rowsAt(ctx, at, s.plan.Members(), s.id)
		if err != nil {
			return nil, err
		}
		keys := newKeys()
		var row change.Row
		for name, f := range found {
			if err := row.Parse(f.image); err != nil {
				return nil, err
			}
			key, ok := s.plan.KeyOf(&row)
			if !ok {
				return nil, untold("one of the user's rows can't be read")
			}
			if err := keys.add(name, key); err != nil {
				return nil, err
			}
		}
		return &turn{at: at, keys: keys}, nil
	})
}

// move finds out what is gained and lost at a change of the member table, for the reader that begins behind it.
func (s *Sequence) move(mc *memberChange, gained, lost []string) {
	before, err := change.ParseCursor(mc.Before)
	if err != nil {
		s.failed = err
		return
	}
	c := change.Change{XID: mc.XID, Seq: mc.Seq, At: microseconds(mc.At)}
	at := before.In(change.PartOf(&c))
	keys := s.keys
	s.read(func(ctx context.Context) (*turn, error) {
		encode, err := s.moved(ctx, at, change.PointAt(before), c, gained, lost)
		return &turn{at: at, keys: keys, encode: encode}, err
	})
}

// moved finds the rows that are lost and gained at a place, and returns what gives their frames: first those lost. Only the last of them
// has a cursor.
func (s *Sequence) moved(ctx context.Context, at change.Cursor, before *change.Point, c change.Change, gained, lost []string) (func() [][]byte, error) {
	all, err := s.plan.Under(slices.Concat(gained, lost))
	if err != nil {
		return nil, err
	}
	left, err := s.plan.Under(lost)
	if err != nil {
		return nil, err
	}
	found, err := s.hub.rowsAt(ctx, at, all, s.id)
	if err != nil {
		return nil, err
	}
	var outs, ins []Matched
	for _, key := range slices.Sorted(maps.Keys(found)) {
		row := found[key]
		var image change.Row
		if err := image.Parse(row.image); err != nil {
			return nil, err
		}
		own := c
		own.Topic, own.Shared, own.Tenant, own.OldTenant = all.Topics()[0], row.shared, row.tenant, row.tenant
		own.Op, own.Old = change.Delete, row.image
		m := matchOf(s.id, &own, &image, nil, nil)
		if left.Match(&m) == Leaves {
			outs = append(outs, Matched{m, Lost})
			continue
		}
		own.Op, own.Old, own.New = change.Insert, nil, row.image
		ins = append(ins, Matched{matchOf(s.id, &own, nil, &image, nil), Gained})
	}
	return func() [][]byte { return encodeMoved(s.ctx, all, append(outs, ins...), before) }, nil
}

func encodeMoved(ctx context.Context, p Set, ms []Matched, before *change.Point) (frames [][]byte) {
	if len(ms) == 0 {
		return nil
	}
	ms[len(ms)-1].Before = before
	if !p.Batches() {
		return encodeMany(ctx, p, ms)
	}
	for len(ms) > 0 {
		n, size := 0, 0
		for n < len(ms) && n < batchChanges && (n == 0 || size < batchBytes) {
			size += ms[n].Change.Size()
			n++
		}
		frames = append(frames, p.EncodeBatch(ctx, ms[:n], false))
		ms = ms[n:]
	}
	return frames
}

// maxUnknown is how often in a row a place may be ahead of what the database has.
const maxUnknown = 20

// read reads what the next reader needs, in the background. It tries until that succeeds or can't.
func (s *Sequence) read(once func(context.Context) (*turn, error)) {
	s.hub.spawn(func() {
		t, err := s.retry(once)
		if err != nil {
			t = &turn{err: err}
		}
		if t.encode != nil { // not in turn: it may call resolvers
			t.frames, t.encode = t.encode(), nil
		}
		s.mu.Lock()
		s.next = t
		s.mu.Unlock()
		s.wake()
	})
}

// standingTime bounds one finding out of how rows stood at a place.
const standingTime = 30 * time.Second

var errSlow = fmt.Errorf("%w: that took longer than %v", ErrUntold, standingTime)

func (s *Sequence) retry(once func(context.Context) (*turn, error)) (*turn, error) {
	wait, ahead := 50*time.Millisecond, 0
	for said := false; ; {
		t, err := s.inTurn(once)
		switch {
		case err == nil:
			return t, nil
		case s.ctx.Err() != nil:
			return nil, ErrClosed
		case errors.Is(err, change.ErrTarget):
			if ahead++; ahead > maxUnknown {
				return nil, fmt.Errorf("%w: it is ahead of all that this server knows", change.ErrCursorInvalid)
			}
		case errors.Is(err, ErrUntold), errors.Is(err, ErrTooManyRows), errors.Is(err, change.ErrDropped), errors.Is(err, change.ErrUnreadable),
			errors.Is(err, change.ErrCursorExpired), errors.Is(err, change.ErrCursorInvalid):
			return nil, err
		}
		if !said {
			said = true
			s.hub.o.Logger.Warn("how rows stood can't be found out; trying again until it can", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return nil, ErrClosed
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// inTurn waits for a turn to read rows.
func (s *Sequence) inTurn(once func(context.Context) (*turn, error)) (*turn, error) {
	select {
	case s.hub.undoing <- struct{}{}:
		defer func() { <-s.hub.undoing }()
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, standingTime, errSlow)
	defer cancel()
	t, err := once(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return nil, errSlow
	}
	return t, err
}
