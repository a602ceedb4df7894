package gql

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/notifyql/notifyql/internal/auth"
	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/filter"
)

// Subscribe compiles an identity's subscription. If it cannot, errs is a JSON array of GraphQL errors, and the plan nil.
func (s *Schema) Subscribe(r Request, id *auth.Identity) (p *Plan, errs []byte) {
	var failed errorList
	func() {
		defer s.contain(&failed)
		var seen *Schema
		if seen, failed = s.as(id); failed == nil {
			p, failed = seen.subscribe(r, id)
		}
	}()
	if failed != nil {
		return nil, failed.json()
	}
	return p, nil
}

// contain turns a panic in what a document led to into an error: a mistake of ours or of the parser must not end others'
// connections.
func (s *Schema) contain(failed *errorList) {
	if p := recover(); p != nil {
		s.log().Error("a GraphQL document led to a panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*failed = oneError(codeInternal, nil, "internal error")
	}
}

func (s *Schema) log() *slog.Logger {
	if s.options.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.options.Log
}

func (s *Schema) subscribe(r Request, id *auth.Identity) (*Plan, errorList) {
	doc, failed := s.document(r)
	if failed != nil {
		return nil, failed
	}
	if doc.op.Operation != ast.Subscription {
		return nil, oneError(codeUnsupported, doc.op.Position, "The operation is a %s, not a subscription.", doc.op.Operation)
	}
	root, failed := s.rootSelections(doc.op, r.Variables)
	if failed != nil {
		return nil, failed
	}
	if len(root) != 1 {
		var pos *ast.Position
		if len(root) > 1 {
			pos = root[1].pos
		}
		return nil, oneError(codeValidation, pos, "A subscription must select exactly one top level field.")
	}
	p := &Plan{root: root[0], field: root[0].name, uses: map[int16]bool{}}
	p.prefix = append([]byte(`{"data":{`), p.root.prefix...)
	if c := s.customs[p.field]; c != nil {
		if err := s.planCustom(p, c, id); err != nil {
			return nil, errorList{err}
		}
		return p, nil
	}
	t := s.tables[p.field]
	if t == nil {
		return nil, oneError(codeValidation, p.root.pos, "Subscription must not select the introspection field %q.", p.field)
	}
	if err := s.planTable(p, t, id); err != nil {
		return nil, errorList{err}
	}
	return p, nil
}

// rootSelections coerces an operation's variables and compiles its selection set.
func (s *Schema) rootSelections(op *ast.OperationDefinition, variables []byte) ([]*selection, errorList) {
	c := collector{coercer: coercer{schema: s.ast, limits: s.options.Limits}, left: 10 * s.options.Limits.Fields}
	if failed := c.variables(op, variables); failed != nil {
		return nil, failed
	}
	typ := s.ast.Query
	if op.Operation == ast.Subscription {
		typ = s.ast.Subscription
	}
	if typ == nil {
		return nil, oneError(codeUnsupported, op.Position, "The schema has no %s.", op.Operation)
	}
	sels, err := c.collect(typ, []ast.SelectionSet{op.SelectionSet})
	if err != nil {
		return nil, errorList{err}
	}
	return sels, nil
}

func (s *Schema) planTable(p *Plan, t *table, id *auth.Identity) *gqlError {
	var why error
	if p.admits, why = t.admits(id); why == nil {
		p.policy, p.members, why = t.membership(id)
	}
	if why != nil {
		p.admits = filter.Or()
		s.log().Info("a subscription sees no rows", "table", t.qualified(), "reason", why)
	}
	p.table, p.schema, p.id = t, s, id
	p.topics = []change.Topic{{Watch: t.info.Watch}}
	w := where{table: t, limits: s.options.Limits, uses: p.uses}
	var bad *badInput
	if p.where, bad = w.predicate(p.root.args["where"], 0); bad != nil {
		return bad.error(p.root.pos, `Argument "where" has an invalid value`)
	}
	if err := p.startOf(t); err != nil {
		return err
	}
	if kids, ok := p.root.kids[t.name+"Batch"]; ok {
		p.batchFields(kids)
	} else {
		p.fields = p.changeFields(p.root.kids[t.name+"Change"])
	}

	p.key = p.tableKey()
	return nil
}

// tableKey is equal for plans over a table that give equal frames.
func (p *Plan) tableKey() string {
	var key strings.Builder
	fmt.Fprintf(&key, "%t ", p.batch != nil)
	key.WriteString(p.table.signature)
	key.WriteByte('\n')
	key.WriteString(p.admits.Key())
	key.WriteByte('\n')
	key.WriteString(p.where.Key())
	key.WriteByte('\n')
	if p.members != nil {
		key.WriteString(p.members.key)
		key.WriteByte('\n')
	}
	p.root.appendShape(&key)
	p.loadsKey(&key)
	return key.String()
}

// appendShape writes what decides a selection's JSON: response keys, fields, and the same below. Arguments are the
// caller's to add where they matter.
func (s *selection) appendShape(b *strings.Builder) {
	b.WriteString(s.key)
	if s.name != s.key {
		b.WriteByte(':')
		b.WriteString(s.name)
	}
	if s.kids == nil {
		return
	}
	types := sortedKeys(s.kids)
	for _, t := range types {
		b.WriteByte('{')
		if len(types) > 1 {
			b.WriteString(strconv.Quote(t))
		}
		for i, kid := range s.kids[t] {
			if i > 0 {
				b.WriteByte(' ')
			}
			kid.appendShape(b)
		}
		b.WriteByte('}')
	}
}
