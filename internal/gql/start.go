package gql

import (
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/subs"
)

// start is where a subscription begins, as its arguments say. It is no part of a plan's key: those that begin elsewhere are
// sent the same from there on.
type start struct {
	after   *change.Cursor
	initial bool
	orderBy []change.OrderBy
	limit   int64
}

// Start says where the subscription begins for an identity.
func (p *Plan) Start(id *auth.Identity) subs.Start {
	if !p.start.initial {
		return subs.Start{After: p.start.after}
	}
	return subs.Start{Rows: p.Query(id)}
}

// startAfter reads the argument after.
func (p *Plan) startAfter() *gqlError {
	text, ok := p.root.args["after"].(string)
	if !ok {
		return nil
	}
	c, err := change.ParseCursor(text)
	if err != nil {
		return p.refuse(codeCursor, "after", "%s", err)
	}
	p.start.after = &c
	return nil
}

// startOf reads the arguments of a table's field that say where it begins. A cursor decides alone, so that one document
// begins with the rows that stand when it is given none, and goes on when it is given one.
func (p *Plan) startOf(t *table) *gqlError {
	if err := p.startAfter(); err != nil || p.start.after != nil {
		return err
	}
	p.start.initial, _ = p.root.args["initial"].(bool)
	order, _ := p.root.args["orderBy"].([]any)
	limit, limited := p.root.args["limit"].(int)
	switch {
	case !p.start.initial && len(order) > 0:
		return p.refuse(codeInput, "orderBy", "it orders the rows that stand, which are asked for with initial: true")
	case !p.start.initial && limited:
		return p.refuse(codeInput, "limit", "it limits the rows that stand, which are asked for with initial: true")
	case limited && limit < 1:
		return p.refuse(codeInput, "limit", "expected at least 1")
	}
	p.start.limit = int64(limit)
	if !p.start.initial {
		return nil
	}
	var bad *badInput
	if p.start.orderBy, bad = t.order(order); bad != nil {
		return p.refuse(codeInput, "orderBy", "%s", bad.Error())
	}
	return nil
}

// refuse is the error of an argument of the root field.
func (p *Plan) refuse(code, argument, format string, args ...any) *gqlError {
	pos := p.root.pos
	if at := p.root.at[argument]; at != nil {
		pos = at
	}
	err := newError(code, pos, "Argument %q has an invalid value; %s.", argument, fmt.Sprintf(format, args...))
	err.Path = []any{p.root.key}
	return err
}

// The values of SortOrder.
var sortOrders = map[string]change.OrderBy{
	"ASC": {}, "ASC_NULLS_FIRST": {NullsFirst: true}, "DESC": {Descending: true, NullsFirst: true}, "DESC_NULLS_LAST": {Descending: true},
}

// order compiles a coerced list of OrderBy objects. The primary key decides between rows that are equal in it, so that
// which ones a limit takes is no accident.
func (t *table) order(list []any) (by []change.OrderBy, bad *badInput) {
	has := func(column string) bool {
		return slices.ContainsFunc(by, func(o change.OrderBy) bool { return o.Column == column })
	}
	for i, one := range list {
		given, _ := one.(map[string]any)
		if len(given) != 1 {
			return nil, &badInput{at: []any{i}, want: "expected one column; the order of several is that of the list"}
		}
		for name, v := range given {
			direction, ok := v.(string)
			if !ok {
				return nil, &badInput{at: []any{i, name}, want: "expected an order, not null"}
			}
			column := t.columns[t.byName[name]].info.Name
			if has(column) {
				return nil, &badInput{at: []any{i, name}, want: "the column is there twice"}
			}
			o := sortOrders[direction]
			o.Column = column
			by = append(by, o)
		}
	}
	for _, k := range t.key {
		if column := t.columns[k].info.Name; !has(column) {
			by = append(by, change.OrderBy{Column: column})
		}
	}
	return by, nil
}

// orderable reports whether rows can be ordered by the column.
func (c *column) orderable() bool { return c.filter.Class.Ordered() }

// resumes reports whether a field's arguments have after, for a cursor.
func resumes(def *ast.FieldDefinition) bool {
	after := def.Arguments.ForName("after")
	return after != nil && after.Type.NamedType == cursorScalar
}
