package gql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/catalog"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
)

// rowPolicy lets those rows through whose column has a value of the identity's: its user's id, or a claim's.
type rowPolicy struct {
	column *filter.Column // nil: it is gone, and there are no such rows
	claim  string
	bypass []string // roles that see all rows
}

// addPolicies takes over the policies of a table's rows.
func (b *builder) addPolicies(t *table, full string) {
	for _, p := range t.info.Policies {
		if p.Kind != catalog.RowPolicy {
			continue
		}
		rows := rowPolicy{claim: p.Claim, bypass: p.Roles}
		for i, c := range t.info.Columns {
			if c.Number == p.Column {
				rows.column = filter.NewColumn(c.Name, i, c.Type)
			}
		}
		if rows.column == nil {
			b.problem(full, "", "is restricted by a column that is gone, or excluded, so that nobody sees its rows but who bypasses that. Look into notifyql.restricted")
		} else if !rows.compares() {
			b.problem(full, rows.column.Name, "is of a type by which rows cannot be restricted, so that nobody sees them but who bypasses that")
			rows.column = nil
		}
		t.rows = append(t.rows, rows)
	}
}

// compares reports whether the column's type is one of those that notifyql.comparable names.
func (p *rowPolicy) compares() bool {
	switch p.column.Class {
	case filter.Bool, filter.Int, filter.Numeric, filter.Text, filter.Char, filter.UUID, filter.Enum:
		return true
	}
	return false
}

// admits is true for the rows that the table's policies let an identity see, whatever it asks for. Where that are none, why says so.
func (t *table) admits(id *auth.Identity) (rows *filter.Predicate, why error) {
	if id == nil {
		id = &auth.Identity{}
	}
	var all []*filter.Predicate
	for i := range t.rows {
		p := &t.rows[i]
		if id.HasRole(p.bypass) {
			continue
		}
		values, err := p.values(id)
		if err == nil && len(values) == 0 {
			err = fmt.Errorf("%s is empty", p.source())
		}
		if err != nil {
			return filter.Or(), err
		}
		all = append(all, filter.In(p.column, values))
	}
	return filter.And(all...), nil
}

// source is what the column's value must be of the identity.
func (p *rowPolicy) source() string {
	if p.claim == "" {
		return "the user's id"
	}
	return fmt.Sprintf("the claim %q", p.claim)
}

// maxValues is how many values one claim may have.
const maxValues = 1000

// values are what the column may be for an identity. A claim that does not fit the column's type, wholly, is none: nothing is guessed.
// An error does not tell the values.
func (p *rowPolicy) values(id *auth.Identity) ([]filter.Value, error) {
	if p.column == nil {
		return nil, errors.New("the column of its policy is gone, excluded or of another type")
	}
	var given []any
	if p.claim == "" {
		given = []any{id.UserID}
	} else {
		switch v := id.Claim(p.claim).(type) {
		case nil:
			return nil, fmt.Errorf("the identity lacks %s", p.source())
		case []any:
			given = v
		case []string:
			for _, one := range v {
				given = append(given, one)
			}
		default:
			given = []any{v}
		}
	}
	if len(given) > maxValues {
		return nil, fmt.Errorf("%s has more than %d values", p.source(), maxValues)
	}
	var values []filter.Value
	for _, one := range given {
		text, ok := textOf(one)
		if ok && text == "" {
			continue // matches nothing, as with tenants
		}
		v, fits := p.value(text)
		if _, boolean := one.(bool); !ok || !fits || boolean && p.column.Class != filter.Bool {
			return nil, fmt.Errorf("%s does not fit the type %s of column %s", p.source(), p.column.Type.Name, p.column.Name)
		}
		values = append(values, v)
	}
	return values, nil
}

// canonicalNumber is a number as Postgres writes it: 7 is somebody else than 07.
var canonicalNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// value is a text as a value of the column, if the text is how Postgres writes it, as with tenants. Of texts that differ no two are one
// value, so that nobody is taken for another.
func (p *rowPolicy) value(text string) (filter.Value, bool) {
	switch p.column.Class {
	case filter.Int, filter.Numeric:
		if !canonicalNumber.MatchString(text) {
			return filter.Value{}, false
		}
	case filter.Char:
		if strings.HasSuffix(text, " ") {
			return filter.Value{}, false
		}
	case filter.UUID:
		if len(text) != 36 || strings.ToLower(text) != text {
			return filter.Value{}, false
		}
	}
	v, err := p.column.ParseValue(text)
	return v, err == nil
}

// textOf is a claim's text: of a string, a whole number, or a truth value.
func textOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), canonicalNumber.MatchString(v.String())
	case bool:
		return strconv.FormatBool(v), true
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64: // as encoding/json gives it to an Auth of the program's own; above that it may be another number, rounded
		return strconv.FormatFloat(v, 'f', -1, 64), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return "", false
}

// SameRows reports whether the tables' policies let two identities see the same rows.
func (s *Schema) SameRows(a, b *auth.Identity) bool {
	for _, t := range s.tables {
		if len(t.rows) == 0 && len(t.members) == 0 {
			continue
		}
		ofA, _ := t.admits(a)
		ofB, _ := t.admits(b)
		_, throughA, notA := t.membership(a)
		_, throughB, notB := t.membership(b)
		if ofA.Key() != ofB.Key() || (notA == nil) != (notB == nil) || throughA.keyOf() != throughB.keyOf() {
			return false
		}
	}
	return true
}

// unchanged reports whether two images of a row look the same to who may not see all columns. That there was a change is then no more
// his to know than what it was.
func (t *table) unchanged(before, after *change.Row) bool {
	for i := range t.columns {
		c := t.columns[i].filter
		was, ok := c.Raw(before)
		is, okNow := c.Raw(after)
		if ok != okNow || !bytes.Equal(was, is) {
			return false
		}
	}
	return true
}
