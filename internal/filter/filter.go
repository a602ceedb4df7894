// Package filter is a predicate over a row: Eval answers it in memory from the raw JSON values of an image, SQL writes
// the same question for Postgres, side by side, so that a subscription's filter means exactly what SQL means. A property
// test holds the two equal on random rows, types and filters.
//
// Invariants: a Predicate is immutable and used by many goroutines at once; Eval allocates nothing and ends for any
// bytes; equal predicates have equal keys, whatever the order in which they were written. Text is compared by its bytes
// (COLLATE "C"); NULL makes a comparison Unknown, as in SQL. A value that is not what the column's type promises, or a
// column that the image lacks, makes it Invalid: the caller must not guess.
package filter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/notifyql/notifyql/internal/change"
)

// Truth is the answer to a predicate.
type Truth byte

// The answers. Unknown is SQL's NULL. Invalid says that the image does not fit the column's type, so that nothing is known.
const (
	False Truth = iota
	Unknown
	True
	Invalid
)

// Predicate is a question about a row. The zero Predicate is true for every row.
type Predicate struct {
	kind kind
	kids []*Predicate // of and, or, not
	col  *Column      // of isNull and tests
	test test
	key  string
}

// test is a question about one column's value. It is not asked for NULL, for which the answer is Unknown; but of jsonb,
// where nothing may be at a path.
type test interface {
	eval(c *Column, raw []byte) Truth
	sql(w *writer, c *Column)
	key(c *Column) string
}

type kind byte

const (
	and kind = iota
	or
	not
	isNull
	tests
)

// And is true where all of ps are; without any, everywhere.
func And(ps ...*Predicate) *Predicate { return join(and, ps) }

// Or is true where one of ps is; without any, nowhere.
func Or(ps ...*Predicate) *Predicate { return join(or, ps) }

// Not is true where p is false.
func Not(p *Predicate) *Predicate {
	return &Predicate{kind: not, kids: []*Predicate{p}, key: "!" + p.Key()}
}

func about(c *Column, t test) *Predicate {
	return &Predicate{kind: tests, col: c, test: t, key: strconv.Quote(c.Name) + " " + t.key(c)}
}

// IsNull is true where the column is NULL. For json and jsonb that is JSON's null as well: an image does not tell them apart.
func IsNull(c *Column) *Predicate {
	return &Predicate{kind: isNull, col: c, key: strconv.Quote(c.Name) + " null"}
}

// join makes one conjunction or disjunction of ps: nested ones of the same kind are taken in, repeated ones left out.
func join(k kind, ps []*Predicate) *Predicate {
	var kids []*Predicate
	for _, p := range ps {
		if p.kind == k {
			kids = append(kids, p.kids...)
		} else {
			kids = append(kids, p)
		}
	}
	slices.SortStableFunc(kids, func(a, b *Predicate) int { return strings.Compare(a.key, b.key) })
	kids = slices.CompactFunc(kids, func(a, b *Predicate) bool { return a.key == b.key })
	if len(kids) == 1 {
		return kids[0]
	}
	var key strings.Builder
	key.WriteByte("&|"[k])
	for _, kid := range kids {
		key.WriteString(strconv.Itoa(len(kid.key)))
		key.WriteByte(':')
		key.WriteString(kid.key)
	}
	return &Predicate{kind: k, kids: kids, key: key.String()}
}

// Key is equal for predicates that ask the same.
func (p *Predicate) Key() string {
	if p.key == "" {
		return "&"
	}
	return p.key
}

// Always reports whether the predicate is true for every row, whatever is in it.
func (p *Predicate) Always() bool { return p.kind == and && len(p.kids) == 0 }

// Never reports whether the predicate is true for no row, whatever is in it.
func (p *Predicate) Never() bool { return p.kind == or && len(p.kids) == 0 }

// Eval answers the predicate for a row.
func (p *Predicate) Eval(row *change.Row) Truth {
	switch p.kind {
	case and:
		all := True
		for _, kid := range p.kids {
			switch kid.Eval(row) {
			case False:
				return False
			case Invalid:
				all = Invalid
			case Unknown:
				if all == True {
					all = Unknown
				}
			}
		}
		return all
	case or:
		one := False
		for _, kid := range p.kids {
			switch kid.Eval(row) {
			case True:
				return True
			case Invalid:
				one = Invalid
			case Unknown:
				if one == False {
					one = Unknown
				}
			}
		}
		return one
	case not:
		switch t := p.kids[0].Eval(row); t {
		case True:
			return False
		case False:
			return True
		default:
			return t
		}
	}
	return p.evalColumn(row)
}

func (p *Predicate) evalColumn(row *change.Row) Truth {
	raw, ok := p.col.Raw(row)
	if !ok {
		return Invalid
	}
	null := string(raw) == "null"
	switch {
	case p.kind == isNull:
		return truth(null)
	case null && p.col.Class != JSONB:
		return Unknown
	}
	return p.test.eval(p.col, raw)
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}
