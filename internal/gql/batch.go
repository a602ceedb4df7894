package gql

import (
	"context"
	"slices"
	"strconv"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

var _ subs.Batcher = (*Plan)(nil)

// batchField is one response key of a batch.
type batchField struct {
	*selection
	fields []changeField // of changes
}

func (p *Plan) batchFields(sels []*selection) {
	p.batch = make([]batchField, len(sels))
	for i, s := range sels {
		p.batch[i] = batchField{selection: s}
		if s.name == "changes" {
			p.batch[i].fields = p.changeFields(s.kids[p.table.name+"Change"])
		}
	}
}

// Batches reports whether the plan is for whole transactions.
func (p *Plan) Batches() bool { return p.batch != nil }

// EncodeBatch gives the ExecutionResult of the changes of one transaction that match, or of a part of them. A change of
// which it is not known what it is, is left out and told of in the errors, so that it does not take the others with it.
func (p *Plan) EncodeBatch(ctx context.Context, changes []subs.Matched, complete bool) []byte {
	return p.encodeBatch(changes, complete, nil, p.load(ctx, changes))
}

// synced is the news that all before a place was sent.
type synced struct{ at *change.Point }

// encodeBatch writes a batch of changes, or with news an empty one.
func (p *Plan) encodeBatch(changes []subs.Matched, complete bool, news *synced, values loaded) []byte {
	size := len(p.prefix) + 64
	for i := range p.batch {
		for j := range changes {
			size += p.size(p.batch[i].fields, changes[j].Change)
		}
	}
	r := &result{buf: append(make([]byte, 0, size), p.prefix...), loaded: values}
	r.buf = append(r.buf, '{')
	for i := range p.batch {
		if i > 0 {
			r.buf = append(r.buf, ',')
		}
		f := &p.batch[i]
		r.buf = append(r.buf, f.prefix...)
		switch f.name {
		case "changes":
			p.changes(r, f, changes)
		case "complete":
			r.buf = strconv.AppendBool(r.buf, complete)
		case "synced":
			r.buf = strconv.AppendBool(r.buf, news != nil)
		case "cursor":
			switch {
			case news != nil:
				r.buf = appendPlace(r.buf, news.at)
			case len(changes) > 0 && changes[len(changes)-1].Effect != subs.Stands:
				last := &changes[len(changes)-1]
				r.buf = appendCursor(r.buf, &last.Match)
			default:
				r.buf = append(r.buf, "null"...)
			}
		default:
			r.buf = quoted(r.buf, p.table.name+"Batch")
		}
	}
	r.buf = append(r.buf, '}', '}', '}')
	return r.finish()
}

func (p *Plan) changes(r *result, f *batchField, changes []subs.Matched) {
	r.buf = append(r.buf, '[')
	n := 0
	for i := range changes {
		m := &changes[i]
		if m.Effect == subs.Failed {
			code, message := failed(&m.Match)
			e := fieldError{code: code, message: message, sel: f.selection, path: []any{p.root.key, f.key}}
			if !slices.ContainsFunc(r.errs, func(o fieldError) bool { return o.code == code && o.sel == f.selection }) {
				r.errs = append(r.errs, e)
			}
			continue
		}
		if n > 0 {
			r.buf = append(r.buf, ',')
		}
		r.list, r.at = f.selection, n
		p.change(r, f.fields, &m.Match, m.Effect)
		n++
	}
	r.buf = append(r.buf, ']')
}
